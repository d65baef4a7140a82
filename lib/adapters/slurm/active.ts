import type { Clock } from "../../base/clock.ts";
import { CriError, messageOf } from "../../base/error.ts";
import type { Logger } from "../../base/log.ts";
import type { Clusters } from "../../config/clusters.ts";
import type { Config } from "../../config/flags.ts";
import type { ClusterLogin } from "../../executors/ssh/login.ts";
import type { ClusterSessions } from "../../executors/ssh/sessions.ts";
import { ContainerLog } from "../../logs/container_log.ts";
import { logPathOf } from "../../logs/log_path.ts";
import type { Store } from "../../store/store.ts";
import { ClusterAccount } from "./account.ts";
import { OutputFollower } from "./follow.ts";
import { VolumeRefresh } from "./refresh.ts";
import { SandboxPlaces } from "./sandbox_places.ts";
import { readSecrets } from "./secrets.ts";
import { loginOf } from "./settings.ts";
import { StreamLines } from "./stream_lines.ts";
import { JobUsages } from "./usage.ts";
import { JobWatch } from "./watch.ts";
import { containerOf, workloadOf } from "./workload.ts";

/** A container that something is being done for: its account is connected and its log open. */
export interface ActiveContainer {
  readonly id: string;
  readonly account: ClusterAccount;
  readonly watch: JobWatch;
  readonly refresh: VolumeRefresh;
  readonly log: ContainerLog;
  /** A start in progress; `settled` never rejects. */
  launch?: { abort: AbortController; settled: Promise<void> };
}

/** The containers in use, and the accounts they share. */
export class ActiveContainers {
  readonly #containers = new Map<string, Promise<ActiveContainer>>();
  /** Where sandboxes left volumes. */
  readonly places: SandboxPlaces;
  /** Of ended containers too, until their records go. */
  readonly usages: JobUsages;
  readonly #accounts = new Map<
    string,
    { account: ClusterAccount; watch: JobWatch; refresh: VolumeRefresh; users: number }
  >();

  constructor(
    readonly config: Config,
    readonly clusters: Clusters,
    readonly store: Store,
    readonly sessions: ClusterSessions,
    readonly clock: Clock,
    readonly log: Logger,
  ) {
    this.places = new SandboxPlaces(store.secrets, clusters, sessions, log);
    this.usages = new JobUsages(config.usageIntervalSeconds * 1000, clock);
    store.containers.onChange((change) => {
      if (change.kind === "deleted") this.usages.forget(change.before.id);
    });
  }

  /**
   * The container, activated if it was not.
   * @throws CriError NOT_FOUND when its credentials are gone.
   */
  of(id: string): Promise<ActiveContainer> {
    const known = this.#containers.get(id);
    if (known !== undefined) return known;
    const active = this.#activate(id);
    this.#containers.set(id, active);
    active.catch(() => this.#containers.delete(id));
    return active;
  }

  /** The container if it is active, without its login being looked for. */
  async current(id: string): Promise<ActiveContainer | undefined> {
    return await this.#containers.get(id)?.catch(() => undefined);
  }

  /** Lets go of a container's log and account, once it ended. */
  async release(id: string): Promise<void> {
    const promise = this.#containers.get(id);
    if (promise === undefined) return;
    this.#containers.delete(id);
    const { account, log, watch, refresh } = await promise;
    await watch.remove(id);
    refresh.remove(id);
    await log.close();
    const shared = this.#accounts.get(account.session.key);
    this.sessions.release(account.session);
    if (shared === undefined || --shared.users > 0) return;
    this.#accounts.delete(account.session.key);
    await Promise.all([watch.close(), refresh.close()]);
  }

  /** As `release`, for a container that is being removed and may still be starting. */
  async forget(id: string): Promise<void> {
    const active = await this.#containers.get(id);
    active?.launch?.abort.abort();
    await active?.launch?.settled;
    await this.release(id);
  }

  watches(): JobWatch[] {
    return [...this.#accounts.values()].map(({ watch }) => watch);
  }

  /** Who watches the container's job now. */
  watchOf(id: string): JobWatch | undefined {
    return this.watches().find((watch) => watch.watches(id));
  }

  /** Lets the container's job be watched, unless the container has ended. */
  watchJob(active: ActiveContainer, jobId: string): void {
    const container = containerOf(this.store, active.id);
    const { directory } = workloadOf(container);
    if (directory === undefined || container.state.phase === "exited") return;
    const output = new OutputFollower(directory, active.log);
    active.refresh.add(container, directory);
    active.watch.add({ containerId: active.id, directory, jobId, log: active.log, output });
  }

  /** A line of our own in a container's log, unless the administrator switched them off. */
  async note(container: { id: string; log: ContainerLog }, message: string): Promise<void> {
    if (!this.config.jobLogLines) return;
    try {
      await container.log.note(message);
    } catch (error) {
      this.log.error("Cannot write a container's log", {
        container: container.id,
        error: messageOf(error),
      });
    }
  }

  /** Ends what is under way; what was submitted is found again by the next process. */
  async close(): Promise<void> {
    await Promise.all([...this.#containers.keys()].map((id) => this.forget(id).catch(() => {})));
    await this.sessions.closeAll();
  }

  async #activate(id: string): Promise<ActiveContainer> {
    const container = this.store.containers.get(id);
    const secrets = await readSecrets(this.store.secrets, id);
    if (container === undefined || secrets === undefined) {
      throw new CriError(
        "NOT_FOUND",
        `Cannot reach the cluster of the container ${id}: its credentials are gone from this node.`,
      );
    }
    const login = loginOf(secrets.cluster, this.clusters);
    const session = this.sessions.acquire(login);
    const shared = this.#accounts.get(session.key) ?? this.#share(
      new ClusterAccount(session, this.config.slurm, this.#linesTo(login), this.clock),
    );
    shared.users++;
    const sandbox = this.store.sandboxes.get(container.sandboxId);
    const path = sandbox === undefined ? "" : logPathOf(sandbox.config, container.config);
    const { maxLogBytes, podLogsDir } = this.config;
    return {
      id,
      account: shared.account,
      watch: shared.watch,
      refresh: shared.refresh,
      log: new ContainerLog(
        id,
        path,
        this.store.logPositions,
        this.clock,
        maxLogBytes,
        podLogsDir,
      ),
    };
  }

  #linesTo(login: ClusterLogin): StreamLines {
    return new StreamLines(
      (line) => this.sessions.acquire(login, line),
      (session) => this.sessions.release(session),
    );
  }

  #share(account: ClusterAccount) {
    const watch = new JobWatch(
      account,
      this.store.containers,
      this.usages,
      (job, message) => this.note(job, message),
      (id) => this.#releaseLater(id),
      this.clock,
      this.log,
    );
    const { store, config, clock, log } = this;
    const refresh = new VolumeRefresh(account, store, config.kubeletRootDir, clock, log);
    const shared = { account, watch, refresh, users: 0 };
    this.#accounts.set(account.session.key, shared);
    return shared;
  }

  /** The watch reports an end from its own loop, which releasing the last container waits for. */
  #releaseLater(id: string): void {
    queueMicrotask(() => {
      this.release(id).catch((error) =>
        this.log.error("Cannot let go of a container", { container: id, error: messageOf(error) })
      );
    });
  }
}
