import type { Clock } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import type { Config } from "../../config/flags.ts";
import type { PodSandboxConfig } from "../../cri/api.generated.ts";
import type { Executor } from "../../executors/executor.ts";
import type { ProcessStarter } from "../../executors/local_process.ts";
import type { Store } from "../../store/store.ts";

/**
 * The network namespace that a pod has of its own, as a path; undefined for one in the node's network.
 * @throws CriError UNAVAILABLE, FAILED_PRECONDITION when it must have one and has none (any more), or one that this server
 * does not care for: the node's is not for it.
 */
export type NetworkOf = (sandboxId: string, config: PodSandboxConfig) => string | undefined;

/** What a `SingularityAdapter` is made of. */
export interface NodeMeans {
  config: Config;
  store: Store;
  executor: Executor;
  processes: ProcessStarter;
  clock: Clock;
  log: Logger;
  /** Whether systemd is this node's init system, which then makes the cgroups. */
  systemdCgroups: boolean;
  nodeName: string;
  networkOf: NetworkOf;
}
