import type { Clock } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import type { Config } from "../../config/flags.ts";
import type { Executor } from "../../executors/executor.ts";
import type { ProcessStarter } from "../../executors/local_process.ts";
import type { Store } from "../../store/store.ts";

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
  /** The network namespace that a pod has of its own, as a path. */
  networkOf: (sandboxId: string) => string | undefined;
}
