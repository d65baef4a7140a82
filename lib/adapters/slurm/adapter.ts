import { isAbsolute, join } from "@std/path";
import type { Clock } from "../../base/clock.ts";
import { type CriCode, CriError, messageOf } from "../../base/error.ts";
import type { Logger } from "../../base/log.ts";
import type { Clusters } from "../../config/clusters.ts";
import type { Config } from "../../config/flags.ts";
import type { ContainerConfig, PodSandboxConfig } from "../../cri/api.generated.ts";
import { loginName } from "../../executors/ssh/login.ts";
import type { ClusterSessions } from "../../executors/ssh/sessions.ts";
import {
  beginStart,
  markExited,
  markRunning,
  START_ERROR_EXIT_CODE,
  START_ERROR_REASON,
  undoStart,
} from "../../store/container_state.ts";
import type { ContainerRecord } from "../../store/records.ts";
import type { Store } from "../../store/store.ts";
import type { Adapter, AdapterCondition, ContainerRequest, ExecResult } from "../adapter.ts";
import { type ActiveContainer, ActiveContainers } from "./active.ts";
import { cleanScript, killScript, terminateScript } from "./cluster_scripts.ts";
import { execSync } from "./exec_sync.ts";
import { jobName, renderJob } from "./job.ts";
import { launchJob } from "./launch.ts";
import { checkMounts } from "./mounts.ts";
import { forgetEnvironment, readSecrets, writeSecrets } from "./secrets.ts";
import { leftOut, refuseUnavailable } from "./security.ts";
import { loginOf, readSettings } from "./settings.ts";
import { settleJob } from "./submit.ts";
import { type SlurmWorkload, withWorkload, workloadOf } from "./workload.ts";

/** StartContainer answers within this, because the kubelet gives it two minutes; the rest happens behind it. */
const START_WAIT_MS = 90_000;
/** How long the start of the server waits for clusters that do not answer. */
const RECOVERY_WAIT_MS = 10_000;
/** After SIGKILL a job's end is seen within seconds, unless the cluster is away. */
const KILL_WAIT_MS = 60_000;

/** The cluster refuses the login, or the login is gone from this node. */
const NO_LOGIN: ReadonlySet<CriCode> = new Set<CriCode>(["UNAUTHENTICATED", "NOT_FOUND"]);

/** Runs containers as Slurm jobs on clusters reached by ssh. */
export class SlurmAdapter implements Adapter {
  readonly name = "slurm";
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
  }

  async prepareContainer(request: ContainerRequest): Promise<SlurmWorkload> {
    const { config, sandbox } = request;
    const settings = readSettings(config.envs, sandbox, this.clusters);
    refuseUnavailable(config, sandbox);
    checkMounts(config, this.config.kubeletRootDir);
    checkLogPath(sandbox, config, this.config.podLogsDir);
    // Rendered once to refuse now what could not be rendered later; the paths do not matter yet.
    renderJob({
      containerId: request.id,
      sandbox,
      config,
      image: request.image,
      settings,
      mapResources: this.config.mapResources,
      directory: "/x",
      imagePath: "/x",
    });
    await writeSecrets(this.store.secrets, request.id, {
      cluster: settings.cluster,
      envs: config.envs,
    });
    return { account: loginName(loginOf(settings.cluster, this.clusters)) };
  }

  async startContainer(id: string, signal: AbortSignal): Promise<void> {
    // Before anything is awaited, so that a stop at the same time sees a start.
    this.#update(id, beginStart);
    const active = await this.#active.of(id).catch((error) => {
      this.#update(id, undoStart);
      throw error;
    });
    let patience: "waiting" | "launched" | "over" = "waiting";
    const launched = this.#launch(active, {
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
      this.#update(id, (state) => markRunning(state, this.clock.now()));
    });
    try {
      await Promise.race([launched, outOfPatience]);
    } finally {
      if (patience === "waiting") patience = "launched";
      answered.abort();
    }
  }

  async stopContainer(id: string, graceMs: number, signal: AbortSignal): Promise<void> {
    const container = this.store.containers.get(id);
    if (container === undefined || !["starting", "running"].includes(container.state.phase)) return;
    try {
      const active = await this.#active.of(id);
      active.launch?.abort.abort();
      await active.launch?.settled;
      if (workloadOf(this.#container(id)).directory !== undefined) {
        // A job may exist from here on: the client must come back to it until its end was seen.
        this.#update(id, (state) => markRunning(state, this.clock.now()));
      }
      const jobId = await this.#jobOf(active);
      if (jobId === undefined) return this.#exitWithoutJob(active, "The container was stopped");
      this.#watch(active, jobId);
      if (graceMs > 0 && workloadOf(this.#container(id)).stop?.killed !== true) {
        this.#markStopping(id, false);
        await this.#tell(active, terminateScript(jobId));
        if (await this.#exitedWithin(id, graceMs, signal)) return;
      }
      this.#markStopping(id, true);
      await this.#tell(active, killScript(jobId));
      if (await this.#exitedWithin(id, KILL_WAIT_MS, signal)) return;
      throw new CriError("UNAVAILABLE", `the job ${jobId} has not ended yet`);
    } catch (error) {
      signal.throwIfAborted();
      throw new CriError(
        "UNAVAILABLE",
        `Cannot see the end of the container ${id}: ${messageOf(error)}; call again.`,
        { cause: error },
      );
    }
  }

  async removeContainer(container: ContainerRecord, _signal: AbortSignal): Promise<void> {
    const { directory } = workloadOf(container);
    if (directory !== undefined) {
      try {
        const active = await this.#active.of(container.id);
        await active.account.reach();
        await this.#clean(active, directory);
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
    this.store.jobTags.delete(container.id);
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

  describeContainer(container: ContainerRecord): Record<string, unknown> {
    const stale = this.#active.watchOf(container.id)?.staleSince;
    return {
      slurm: workloadOf(container),
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
      if (this.store.containers.get(id) === undefined) await this.store.secrets.delete(id);
    }
    for (const { id, state, workload } of this.store.containers.all()) {
      if (state.phase !== "starting" && state.phase !== "running") continue;
      try {
        const active = await this.#active.of(id);
        const { jobId } = workload as SlurmWorkload;
        if (jobId !== undefined) {
          await forgetEnvironment(this.store.secrets, id);
          this.#watch(active, jobId);
        } else {
          this.#update(id, (before) => markRunning(before, this.clock.now()));
          this.#launch(active, { mayBeSubmitted: true, keepTrying: () => true }).catch(() => {});
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

  /** Launches in the background; the promise rejects when the start failed, and the record says so. */
  #launch(
    active: ActiveContainer,
    how: { mayBeSubmitted: boolean; keepTrying: () => boolean },
  ): Promise<void> {
    const abort = new AbortController();
    const work = this.#launchNow(active, { ...how, signal: abort.signal });
    active.launch = {
      abort,
      settled: work.catch(() => {}).then(() => {
        delete active.launch;
      }),
    };
    return work;
  }

  async #launchNow(
    active: ActiveContainer,
    how: { mayBeSubmitted: boolean; keepTrying: () => boolean; signal: AbortSignal },
  ): Promise<void> {
    const { id } = active;
    const notes: string[] = [];
    try {
      const container = this.#container(id);
      const plan = async () => {
        const sandbox = this.store.sandboxes.get(container.sandboxId);
        const image = this.store.images.get(container.imageId);
        const secrets = await readSecrets(this.store.secrets, id);
        if (sandbox === undefined || image === undefined || secrets?.envs === undefined) {
          throw new CriError(
            "FAILED_PRECONDITION",
            `Cannot start the container ${id}: its sandbox, image or environment is gone from this node.`,
          );
        }
        const settings = readSettings(secrets.envs, sandbox.config, this.clusters);
        notes.push(...settings.ignoredLines.map((line) => `ignored: ${line}`));
        notes.push(...leftOut(container.config, sandbox.config));
        return { sandbox: sandbox.config, image, settings };
      };
      const jobId = await launchJob(
        {
          ...how,
          container,
          plan,
          mapResources: this.config.mapResources,
          account: active.account,
          note: (message) => this.#active.note(active, message),
        },
        this.store,
        this.clock,
        this.log,
      );
      await forgetEnvironment(this.store.secrets, id);
      const { directory } = workloadOf(this.#container(id));
      await this.#active.note(
        active,
        `job ${jobId} submitted to ${active.account.name}, results in ${directory}/results`,
      );
      for (const line of new Set(notes)) await this.#active.note(active, line);
      this.#watch(active, jobId);
    } catch (error) {
      await this.#launchFailed(active, CriError.from(error));
      throw error;
    }
  }

  async #launchFailed(active: ActiveContainer, failure: CriError): Promise<void> {
    // A cancelled start is judged by whoever cancelled it; a closing server takes it up again.
    if (failure.code === "CANCELLED") return;
    const { id } = active;
    if (failure.code === "UNAVAILABLE" && this.#container(id).state.phase === "starting") {
      this.#update(id, undoStart);
      return;
    }
    await this.#active.note(active, `the job could not be started: ${messageOf(failure)}`);
    const { directory } = workloadOf(this.#container(id));
    if (directory !== undefined) {
      await this.#clean(active, directory).catch((error) =>
        this.log.warning("Files stay on the cluster until the container is removed", {
          container: id,
          directory,
          error: messageOf(error),
        })
      );
    }
    this.#exit(id, START_ERROR_EXIT_CODE, START_ERROR_REASON, messageOf(failure));
    await this.#active.release(id);
  }

  #watch(active: ActiveContainer, jobId: string): void {
    const { directory } = workloadOf(this.#container(active.id));
    if (directory === undefined || this.#container(active.id).state.phase === "exited") return;
    active.watch.add({ containerId: active.id, directory, jobId, log: active.log });
  }

  /** The job's id, asked from the cluster when an interrupted start left it unknown. */
  async #jobOf(active: ActiveContainer): Promise<string | undefined> {
    const { jobId, directory } = workloadOf(this.#container(active.id));
    if (directory === undefined) return undefined;
    await active.account.reach();
    if (jobId !== undefined) return jobId;
    const found = await settleJob(active.account, directory, jobName(active.id));
    if (found === undefined) return undefined;
    this.store.containers.update(
      active.id,
      withWorkload((workload) => ({ ...workload, jobId: found })),
    );
    return found;
  }

  async #exitWithoutJob(active: ActiveContainer, message: string): Promise<void> {
    this.#exit(active.id, 137, "Cancelled", message);
    await this.#active.release(active.id);
  }

  #exit(id: string, exitCode: number, reason: string, message: string): void {
    const finishedAtMs = this.clock.now();
    this.#update(id, (state) => markExited(state, { finishedAtMs, exitCode, reason, message }));
  }

  #markStopping(id: string, killed: boolean): void {
    this.store.containers.update(
      id,
      withWorkload((workload) => ({ ...workload, stop: { killed } })),
    );
  }

  /** Runs a script of scancel commands; only a cluster that does not answer is an error. */
  async #tell(active: ActiveContainer, script: string): Promise<void> {
    const { stderr } = await active.account.session.run(script, { timeoutMs: KILL_WAIT_MS });
    const words = new TextDecoder().decode(stderr).trim();
    if (/Unable to contact|timed out|refused|not responding/i.test(words)) {
      throw new CriError(
        "UNAVAILABLE",
        `Slurm on ${active.account.name} does not answer: ${words}`,
      );
    }
  }

  async #exitedWithin(id: string, ms: number, signal: AbortSignal): Promise<boolean> {
    const done = new AbortController();
    const either = AbortSignal.any([signal, done.signal]);
    const exited = this.store.containers.waitFor(
      id,
      ({ state }) => state.phase === "exited",
      either,
    );
    const tooLong = this.clock.sleep(ms, either).then(() => false);
    try {
      return await Promise.race([exited.then(() => true), tooLong]);
    } finally {
      done.abort();
      await Promise.allSettled([exited, tooLong]);
    }
  }

  async #clean(active: ActiveContainer, directory: string): Promise<void> {
    if (workloadOf(this.#container(active.id)).jobId === undefined) {
      // The start failed, but its outcome on the cluster may never have been seen.
      const jobId = await settleJob(active.account, directory, jobName(active.id));
      if (jobId !== undefined) await this.#tell(active, killScript(jobId));
    }
    const result = await active.account.session.run(cleanScript(directory));
    if (result.code === 0) return;
    throw new CriError(
      "UNAVAILABLE",
      `Cannot remove ${directory} on ${active.account.name}: ${
        new TextDecoder().decode(result.stderr).trim()
      }`,
    );
  }

  #container(id: string): ContainerRecord {
    const container = this.store.containers.get(id);
    if (container === undefined) throw new CriError("NOT_FOUND", `The container ${id} is gone.`);
    return container;
  }

  #update(id: string, change: (state: ContainerRecord["state"]) => ContainerRecord["state"]): void {
    this.store.containers.update(id, (record) => ({ ...record, state: change(record.state) }));
  }
}

/** The log must lie where the administrator lets the server write. */
function checkLogPath(
  sandbox: PodSandboxConfig,
  config: ContainerConfig,
  podLogsDir: string,
): void {
  if (config.logPath === "" || sandbox.logDirectory === "") return;
  const path = join(sandbox.logDirectory, config.logPath);
  if (isAbsolute(path) && path.startsWith(`${podLogsDir}/`)) return;
  throw new CriError(
    "INVALID_ARGUMENT",
    `Cannot write the log ${path}: log_directory must lie below --pod-logs-dir (${podLogsDir}).`,
  );
}
