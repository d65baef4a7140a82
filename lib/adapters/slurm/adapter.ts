import type { Clock } from "../../base/clock.ts";
import { type CriCode, CriError, messageOf } from "../../base/error.ts";
import type { Logger } from "../../base/log.ts";
import type { Clusters } from "../../config/clusters.ts";
import type { Config } from "../../config/flags.ts";
import { Signal } from "../../cri/api.generated.ts";
import { loginName } from "../../executors/ssh/login.ts";
import type { ClusterSessions } from "../../executors/ssh/sessions.ts";
import { beginStart, markRunning, undoStart } from "../../store/container_state.ts";
import type { ContainerRecord } from "../../store/records.ts";
import type { Store } from "../../store/store.ts";
import type { CommandRunner, PortForwarder, StreamsWanted } from "../../streaming/process.ts";
import type {
  Adapter,
  AdapterCondition,
  ContainerRequest,
  ContainerUsage,
  ExecResult,
  PodAdapter,
  ResourceChange,
} from "../adapter.ts";
import { type ActiveContainer, ActiveContainers } from "./active.ts";
import { attachToJob } from "./attach.ts";
import { abandonContainer } from "./abandon.ts";
import { describeJob } from "./describe.ts";
import { streamExec } from "./exec_stream.ts";
import { execSync } from "./exec_sync.ts";
import { renderJob } from "./job.ts";
import { planMounts } from "./mounts.ts";
import { openPortForward } from "./port_forward.ts";
import { checkResources } from "./resources.ts";
import { checkLogPath } from "../../logs/log_path.ts";
import { execRequest, runningSoon } from "./running_job.ts";
import { forgetEnvironment, writeSecrets } from "./secrets.ts";
import { refuseUnavailable } from "./security.ts";
import { loginOf, readSettings } from "./settings.ts";
import { checkImage, checkParts } from "./shared_login.ts";
import { stageMounts } from "./staging.ts";
import { launch } from "./start.ts";
import { cleanContainer, stopContainer } from "./stop.ts";
import { updateJob } from "./update.ts";
import { changeState, containerOf, type SlurmWorkload, workloadOf } from "./workload.ts";

/** StartContainer answers within this, because the kubelet gives it two minutes; the rest happens behind it. */
const START_WAIT_MS = 90_000;
/** How long the start of the server waits for clusters that do not answer. */
const RECOVERY_WAIT_MS = 10_000;

/** The cluster refuses the login, or the login is gone from this node. */
const NO_LOGIN: ReadonlySet<CriCode> = new Set<CriCode>(["UNAUTHENTICATED", "NOT_FOUND"]);

/** Runs containers as Slurm jobs on clusters reached by ssh. */
export class SlurmAdapter implements Adapter {
  readonly name = "slurm";
  readonly features = {
    recursiveReadOnlyMounts: false,
    supplementalGroupsPolicy: false,
    userNamespaces: false,
  };
  readonly pods: PodAdapter;
  readonly #active: ActiveContainers;

  constructor(
    readonly config: Config,
    readonly clusters: Clusters,
    readonly store: Store,
    sessions: ClusterSessions,
    readonly clock: Clock,
    readonly log: Logger,
  ) {
    this.#active = new ActiveContainers(config, clusters, store, sessions, clock, log);
    const { places } = this.#active;
    this.pods = {
      check: () => {},
      // What they share on the cluster comes with the first container.
      run: () => Promise.resolve(),
      stop: (id) => places.end(id),
      remove: (id) => places.clean(id),
    };
  }

  async prepareContainer(request: ContainerRequest): Promise<SlurmWorkload> {
    const { config, sandbox } = request;
    const settings = readSettings(config.envs, sandbox, this.clusters);
    checkImage(request.image, settings.cluster, this.clusters);
    refuseUnavailable(config, sandbox);
    checkResources(config.linux?.resources, `the container ${config.metadata?.name ?? ""}`);
    const mounts = planMounts(config, sandbox, this.config.kubeletRootDir);
    // Read once to refuse now what could not be copied later; the place does not matter yet.
    const staging = await stageMounts(mounts, { directory: "/x/x", volume: "/x" });
    checkParts(staging, settings.cluster, this.clusters);
    await checkLogPath(sandbox, config, this.config.podLogsDir);
    // Rendered once to refuse now what could not be rendered later; the paths do not matter yet.
    renderJob({
      containerId: request.id,
      sandboxId: "x",
      sandbox,
      config,
      image: request.image,
      settings,
      mapResources: this.config.mapResources,
      joinCommands: this.config.joinCommands,
      usageSeconds: this.config.usageIntervalSeconds,
      directory: "/x",
      imagePath: "/x",
      results: { directory: "/x" },
      staging,
    });
    await writeSecrets(this.store.secrets, request.id, {
      cluster: settings.cluster,
      envs: config.envs,
    });
    return { account: loginName(loginOf(settings.cluster, this.clusters)) };
  }

  async startContainer(id: string, signal: AbortSignal): Promise<void> {
    // Before anything is awaited, so that a stop at the same time sees a start.
    changeState(this.store, id, beginStart);
    const active = await this.#ready(id).catch((error) => {
      changeState(this.store, id, undoStart);
      throw error;
    });
    if (containerOf(this.store, id).state.phase !== "starting") {
      throw new CriError("CANCELLED", `The start of the container ${id} was cancelled.`);
    }
    let patience: "waiting" | "launched" | "over" = "waiting";
    const launched = launch(this.#active, active, {
      mayBeSubmitted: false,
      keepTrying: () => patience === "over",
    });
    const answered = new AbortController();
    const either = AbortSignal.any([signal, answered.signal]);
    const outOfPatience = this.clock.sleep(START_WAIT_MS, either).catch(() => {}).then(() => {
      if (patience !== "waiting") return;
      patience = "over";
      // From here on it runs as far as the kubelet is concerned: a container left in "created" would be
      // created again and run twice.
      changeState(this.store, id, (state) => markRunning(state, this.clock.now()));
    });
    try {
      await Promise.race([launched, outOfPatience]);
    } finally {
      if (patience === "waiting") patience = "launched";
      answered.abort();
    }
  }

  /** The container with its account, and with a log that can be written. */
  async #ready(id: string): Promise<ActiveContainer> {
    const active = await this.#active.of(id);
    await active.log.prepare();
    return active;
  }

  async stopContainer(id: string, graceMs: number, signal: AbortSignal): Promise<void> {
    await stopContainer(this.#active, id, graceMs, signal);
  }

  async abandonContainer(id: string): Promise<void> {
    await abandonContainer(this.#active, id);
  }

  async updateResources(container: ContainerRecord, change: ResourceChange): Promise<void> {
    await updateJob(this.#active, container, change);
  }

  async removeContainer(container: ContainerRecord, _signal: AbortSignal): Promise<void> {
    const { directory, abandoned = false } = workloadOf(container);
    if (directory !== undefined && !abandoned) {
      try {
        const active = await this.#active.of(container.id);
        await active.account.reach();
        await cleanContainer(this.store, active, directory);
      } catch (error) {
        // Without a login nothing can ever be done there, and the container must go nevertheless.
        if (!(error instanceof CriError) || !NO_LOGIN.has(error.code)) throw error;
        this.log.warning("A removed container's files stay on the cluster", {
          container: container.id,
          directory,
          error: messageOf(error),
        });
      }
    }
    await this.#active.forget(container.id);
    // Should its cluster come back, the tag lets the pod's next attempt end the job.
    if (!abandoned) this.store.jobTags.delete(container.id);
    await this.store.secrets.delete(container.id);
  }

  async reopenLog(id: string): Promise<void> {
    await (await this.#active.of(id)).log.reopen();
  }

  execSync(
    id: string,
    argv: readonly string[],
    timeoutMs: number,
    signal: AbortSignal,
  ): Promise<ExecResult> {
    return execSync(this.#active, this.store, this.clock, id, argv, timeoutMs, signal);
  }

  usage(id: string): ContainerUsage | undefined {
    return this.#active.usages.of(id);
  }

  async openExec(
    id: string,
    argv: readonly string[],
    tty: boolean,
    signal: AbortSignal,
  ): Promise<CommandRunner> {
    const container = await runningSoon(this.store, this.clock, id, "run a command in", signal);
    const request = execRequest(this.store, container, argv, 0);
    const { account } = await this.#active.of(id);
    return (streams, gone) => streamExec(request, tty, account, this.clock, streams, gone);
  }

  async openAttach(
    id: string,
    { stdin }: StreamsWanted,
    signal: AbortSignal,
  ): Promise<CommandRunner> {
    const container = await runningSoon(this.store, this.clock, id, "attach to", signal);
    const { account } = await this.#active.of(id);
    return (streams, gone) =>
      attachToJob(container, stdin, account, this.store, this.clock, streams, gone);
  }

  async openPortForward(ids: readonly string[], signal: AbortSignal): Promise<PortForwarder> {
    return await openPortForward(this.#active, this.store, this.clock, ids, signal);
  }

  /** Whatever is asked for: it is what the batch script passes on (`terminateScript`). */
  stopSignalOf(): Signal {
    return Signal.SIGNAL_SIGTERM;
  }

  describeContainer(container: ContainerRecord): Record<string, unknown> {
    const stale = this.#active.watchOf(container.id)?.staleSince;
    return {
      slurm: describeJob(workloadOf(container), this.usage(container.id)),
      ...(stale === undefined
        ? {}
        : { stale: { since: new Date(stale.atMs).toISOString(), error: stale.error } }),
    };
  }

  conditions(): AdapterCondition[] {
    return this.#active.watches().map(({ account, staleSince }) => {
      const { state } = account.session;
      const error = "error" in state ? state.error.message : staleSince?.error;
      const status = state.kind === "ready" && staleSince === undefined;
      return {
        type: `ClusterReachable/${account.name}`,
        status,
        reason: status ? "" : "LastKnownStatesStand",
        message: status ? "" : error ?? "not connected yet",
      };
    });
  }

  /**
   * Takes up every container that was starting or running when the last process ended. A start that was
   * interrupted is finished, not undone: its client saw an error, but it lists containers before it acts
   * again, and a job that was already accepted must not be lost.
   */
  async recover(): Promise<void> {
    for (const id of await this.store.secrets.ids()) {
      const { containers, sandboxes, secrets } = this.store;
      if (!containers.get(id) && !sandboxes.get(id)) await secrets.delete(id);
    }
    for (const { id, state, workload } of this.store.containers.all()) {
      if (state.phase !== "starting" && state.phase !== "running") continue;
      try {
        const active = await this.#active.of(id);
        const { jobId } = workload as SlurmWorkload;
        if (jobId !== undefined) {
          await forgetEnvironment(this.store.secrets, id);
          this.#active.watchJob(active, jobId);
        } else {
          changeState(this.store, id, (before) => markRunning(before, this.clock.now()));
          launch(this.#active, active, { mayBeSubmitted: true, keepTrying: () => true }).catch(
            () => {},
          );
        }
      } catch (error) {
        // One container's damage must not keep the others from being found; its last state stands.
        this.log.error("Cannot take up a container again", {
          container: id,
          error: messageOf(error),
        });
      }
    }
    const firstLook = Promise.all(this.#active.watches().map((watch) => watch.nextPass()));
    const waited = new AbortController();
    await Promise.race([
      firstLook,
      this.clock.sleep(RECOVERY_WAIT_MS, waited.signal).catch(() => {}),
    ]);
    waited.abort();
  }

  async close(): Promise<void> {
    await this.#active.close();
  }
}
