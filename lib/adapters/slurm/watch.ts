import { join } from "@std/path";
import type { Clock } from "../../base/clock.ts";
import { type CriCode, CriError, messageOf } from "../../base/error.ts";
import type { Logger } from "../../base/log.ts";
import type { ContainerLog } from "../../logs/container_log.ts";
import { type ContainerEnd, markExited } from "../../store/container_state.ts";
import type { ContainerRecord } from "../../store/records.ts";
import type { Table } from "../../store/table.ts";
import { type ClusterAccount, SLURM_COMMAND_TIMEOUT_MS } from "./account.ts";
import { killScript } from "./cluster_scripts.ts";
import { followOutput } from "./follow.ts";
import { LOST_EXIT_CODE, type QueueEntry, readPostMortem, readQueue } from "./queue.ts";
import { MAX_STATUS_BYTES, parseExit, parseStart } from "./status_files.ts";
import { copyTerminationMessage, terminationMount } from "./termination.ts";
import { type SlurmWorkload, withWorkload, workloadOf } from "./workload.ts";

/** How often the jobs' files are looked at: cheap (0.1 ms a file), and the delay of logs and ends. */
const FILES_INTERVAL_MS = 200;
/** Added for each job, so that a thousand of them do not keep a shared file system busy. */
const FILES_INTERVAL_MS_PER_JOB = 2;
/** The same while there is output left to copy. */
const COPYING_INTERVAL_MS = 10;
/** How often Slurm is asked, in one command for all jobs: pending reasons, and ends without a word. */
const QUEUE_INTERVAL_MS = 5_000;
/** The same while a job is being stopped, which someone waits for. */
const QUEUE_INTERVAL_STOPPING_MS = 1_000;
/** A job that Slurm calls ended gets this long to show its own exit file, which a slow home may delay. */
const EXIT_FILE_GRACE_MS = 3_000;
/** Pause after an error, so that an unreachable cluster is not asked all the time. */
const ERROR_PAUSE_MS = 1_000;

/** A job that is watched. */
export interface WatchedJob {
  readonly containerId: string;
  readonly directory: string;
  readonly log: ContainerLog;
  jobId: string;
  /** When Slurm was first seen to call it ended or not to know it; undefined while it lives. */
  endedSinceMs?: number;
  /** How it ended; told as soon as all of its output is copied. */
  end?: ContainerEnd;
  /** Whether it was said that its files cannot be read. */
  unreadable?: boolean;
}

/** Errors that say nothing about a job: the cluster did not answer. */
const UNANSWERED: ReadonlySet<CriCode> = new Set<CriCode>([
  "UNAVAILABLE",
  "UNKNOWN",
  "UNAUTHENTICATED",
  "DEADLINE_EXCEEDED",
]);

/**
 * Watches all jobs of one account in one loop: their status files and output over sftp, and one squeue for
 * all. An error means that nothing is known, never that a job ended.
 */
export class JobWatch {
  readonly #jobs = new Map<string, WatchedJob>();
  readonly #stop = new AbortController();
  #wake: (() => void) | undefined;
  #loop: Promise<void> | undefined;
  #passes = Promise.withResolvers<void>();
  #queueReadAtMs = 0;
  /** Why the last look at the cluster failed; undefined when it succeeded. */
  staleSince: { atMs: number; error: string } | undefined;

  constructor(
    readonly account: ClusterAccount,
    readonly containers: Table<ContainerRecord>,
    readonly notes: (job: { id: string; log: ContainerLog }, message: string) => Promise<void>,
    readonly ended: (containerId: string) => void,
    readonly clock: Clock,
    readonly log: Logger,
  ) {}

  add(job: WatchedJob): void {
    this.#jobs.set(job.containerId, job);
    this.#wake?.();
    this.#loop ??= this.#run();
  }

  remove(containerId: string): void {
    this.#jobs.delete(containerId);
  }

  watches(containerId: string): boolean {
    return this.#jobs.has(containerId);
  }

  /** Resolves after the next look at all jobs, whether it succeeded or not. */
  nextPass(): Promise<void> {
    return this.#jobs.size === 0 ? Promise.resolve() : this.#passes.promise;
  }

  async close(): Promise<void> {
    this.#stop.abort();
    this.#wake?.();
    await this.#loop;
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      let pauseMs = FILES_INTERVAL_MS + FILES_INTERVAL_MS_PER_JOB * this.#jobs.size;
      if (this.#jobs.size === 0) {
        await this.#untilWoken();
        continue;
      }
      try {
        if (await this.#pass()) pauseMs = COPYING_INTERVAL_MS;
        if (this.staleSince !== undefined) {
          this.log.info("The cluster can be looked at again", { cluster: this.account.name });
        }
        this.staleSince = undefined;
      } catch (error) {
        if (this.staleSince === undefined) {
          this.log.warning("Cannot look at the jobs of a cluster; their last known states stand", {
            cluster: this.account.name,
            error: messageOf(error),
          });
        }
        this.staleSince ??= { atMs: this.clock.now(), error: messageOf(error) };
        pauseMs = ERROR_PAUSE_MS;
      }
      this.#passes.resolve();
      this.#passes = Promise.withResolvers();
      await this.clock.sleep(pauseMs, this.#stop.signal).catch(() => {});
    }
    this.#passes.resolve();
  }

  #untilWoken(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = () => {
        this.#wake = undefined;
        resolve();
      };
      if (this.#stop.signal.aborted || this.#jobs.size > 0) this.#wake();
    });
  }

  /**
   * Looks at every job, whatever happens with another, then throws what went wrong first. True when output is left
   * to copy.
   */
  async #pass(): Promise<boolean> {
    const jobs = [...this.#jobs.values()];
    const looks = await Promise.allSettled(jobs.map((job) => this.#look(job)));
    const failures = looks.filter((look) => look.status === "rejected");
    // Only a job that was submitted before squeue ran can be missing from its answer, and without an answer from
    // its files it may not be called ended.
    const asked = jobs.filter((job, index) =>
      looks[index]?.status === "fulfilled" && this.#jobs.has(job.containerId) &&
      job.end === undefined
    );
    if (asked.length > 0 && this.clock.now() - this.#queueReadAtMs >= this.#queueIntervalMs()) {
      const queue = await readQueue(this.account);
      this.#queueReadAtMs = this.clock.now();
      for (const job of asked) {
        const [look] = await Promise.allSettled([this.#lookAtQueue(job, queue.get(job.jobId))]);
        if (look.status === "rejected") failures.push(look);
      }
    }
    if (failures[0] !== undefined) throw failures[0].reason;
    return looks.some((look) => look.status === "fulfilled" && look.value);
  }

  /** True when output is left to copy. A job whose own files cannot be read is left to squeue. */
  async #look(job: WatchedJob): Promise<boolean> {
    try {
      return await this.#lookAtFiles(job);
    } catch (error) {
      const answered = this.account.session.state.kind === "ready";
      if (!(error instanceof CriError) || UNANSWERED.has(error.code) || !answered) throw error;
      if (!job.unreadable) {
        job.unreadable = true;
        this.log.warning("Cannot read a job's files; Slurm alone tells how it goes", {
          container: job.containerId,
          error: messageOf(error),
        });
        await this.#note(job, `the files of job ${job.jobId} cannot be read: ${messageOf(error)}`);
      }
      if (job.end !== undefined) await this.#tellEnd(job, job.end);
      return false;
    }
  }

  #queueIntervalMs(): number {
    const stopping = [...this.#jobs.keys()].some((id) => {
      const container = this.containers.get(id);
      return container !== undefined && workloadOf(container).stop !== undefined;
    });
    return stopping ? QUEUE_INTERVAL_STOPPING_MS : QUEUE_INTERVAL_MS;
  }

  /** The exit file is looked for before the output is copied, so that an end is told with all of it. */
  async #lookAtFiles(job: WatchedJob): Promise<boolean> {
    const container = this.containers.get(job.containerId);
    if (container === undefined) return false;
    if (job.end === undefined) {
      const exit = await this.#readStatus(job, "exit");
      if (workloadOf(container).job === undefined) {
        const start = await this.#readStatus(job, "start");
        if (start !== undefined) await this.#noteStart(job, start);
        else if (exit === undefined) return false;
      }
      if (exit !== undefined) job.end = this.#endFrom(exit, workloadOf(container));
    }
    const atEnd = await this.#copyOutput(job, job.end !== undefined);
    if (job.end !== undefined && atEnd) await this.#tellEnd(job, job.end);
    return !atEnd;
  }

  #readStatus(job: WatchedJob, name: string): Promise<Uint8Array | undefined> {
    return this.account.session.readFile(join(job.directory, "status", name), MAX_STATUS_BYTES);
  }

  async #noteStart(job: WatchedJob, bytes: Uint8Array): Promise<void> {
    const start = parseStart(bytes) ?? { jobId: job.jobId, host: "?", timeMs: this.clock.now() };
    if (start.jobId !== job.jobId) {
      // Slurm accepted two jobs for the container: this one has the claim, the other must not linger.
      const other = job.jobId;
      job.jobId = start.jobId;
      await this.account.session.run(killScript(other), { timeoutMs: SLURM_COMMAND_TIMEOUT_MS });
    }
    this.containers.update(
      job.containerId,
      withWorkload(({ pending: _pending, ...workload }) => ({
        ...workload,
        jobId: job.jobId,
        slurmState: "RUNNING",
        job: { host: start.host, startedAtMs: start.timeMs },
      })),
    );
    await this.#note(job, `job ${job.jobId} runs on ${start.host}`);
  }

  #endFrom(bytes: Uint8Array, workload: SlurmWorkload): ContainerEnd {
    const { exitCode, error, timeMs } = parseExit(bytes) ?? {
      exitCode: LOST_EXIT_CODE,
      error: "The job's exit file is damaged",
      timeMs: this.clock.now(),
    };
    return {
      finishedAtMs: Math.min(timeMs, this.clock.now()),
      exitCode,
      reason: error !== undefined ? "StartError" : exitCode === 0 ? "Completed" : "Error",
      message: error ?? (workload.stop === undefined ? "" : "The container was stopped"),
    };
  }

  /** True when nothing is left. A log that cannot be written (disk full) must not keep an end from being told. */
  async #copyOutput(job: WatchedJob, final: boolean): Promise<boolean> {
    try {
      return await followOutput(this.account.session, job.directory, job.log, final);
    } catch (error) {
      if (error instanceof CriError) throw error;
      this.log.error("Cannot write a container's log", {
        container: job.containerId,
        error: messageOf(error),
      });
      return true;
    }
  }

  /** Comes before the end is told: the kubelet reads the message once. */
  async #copyTermination(job: WatchedJob): Promise<void> {
    const container = this.containers.get(job.containerId);
    const mount = container === undefined ? undefined : terminationMount(container.config);
    if (mount === undefined) return;
    try {
      await copyTerminationMessage(this.account.session, job.directory, mount.hostPath);
    } catch (error) {
      if (error instanceof CriError) throw error;
      this.log.error("Cannot write a container's termination message", {
        container: job.containerId,
        path: mount.hostPath,
        error: messageOf(error),
      });
    }
  }

  async #lookAtQueue(job: WatchedJob, entry: QueueEntry | undefined): Promise<void> {
    const container = this.containers.get(job.containerId);
    if (container === undefined || !this.#jobs.has(job.containerId)) return;
    if (entry !== undefined && entry.phase !== "ended") {
      delete job.endedSinceMs;
      await this.#noteQueue(job, container, entry);
      return;
    }
    job.endedSinceMs ??= this.clock.now();
    const { stop } = workloadOf(container);
    // A job that never had a node has no exit file to wait for, nor has one whose script was killed.
    const neverRan = entry?.nodes === "" && workloadOf(container).job === undefined;
    const graceless = neverRan || stop?.killed === true;
    if (!graceless && this.clock.now() - job.endedSinceMs < EXIT_FILE_GRACE_MS) return;
    const end = await readPostMortem(this.account, job.directory, job.jobId, entry?.state);
    if (end === undefined) {
      delete job.endedSinceMs;
      return;
    }
    job.end = {
      finishedAtMs: this.clock.now(),
      ...end,
      // An end that was asked for is the one the client expects: 143 for SIGTERM, 137 for SIGKILL.
      ...(stop === undefined ? {} : { exitCode: stop.killed ? 137 : 143, reason: "Cancelled" }),
    };
    await this.#look(job);
  }

  async #noteQueue(
    job: WatchedJob,
    container: ContainerRecord,
    entry: QueueEntry,
  ): Promise<void> {
    const before = workloadOf(container);
    if (entry.phase !== "pending" || before.job !== undefined) return;
    const { reason, expectedStart, priority } = entry;
    const same = before.slurmState === entry.state && before.pending?.reason === reason &&
      before.pending.expectedStart === expectedStart && before.pending.priority === priority;
    if (same) return;
    this.containers.update(
      job.containerId,
      withWorkload((workload) => ({
        ...workload,
        slurmState: entry.state,
        pending: { reason, expectedStart, priority },
      })),
    );
    const told = before.pending?.reason === reason &&
      before.pending.expectedStart === expectedStart;
    // "None": Slurm has not looked at the job yet.
    if (told || reason === "None") return;
    const start = expectedStart === "" ? "" : `, expected start ${expectedStart}`;
    await this.#note(job, `job ${job.jobId} waits: ${reason}${start}`);
  }

  async #tellEnd(job: WatchedJob, end: ContainerEnd): Promise<void> {
    await this.#copyTermination(job);
    if (end.reason !== "Completed" && end.message !== "") {
      await this.#note(job, `job ${job.jobId} ended with ${end.exitCode}: ${end.message}`);
    }
    this.containers.update(
      job.containerId,
      (container) => ({ ...container, state: markExited(container.state, end) }),
    );
    this.#jobs.delete(job.containerId);
    this.ended(job.containerId);
  }

  #note(job: WatchedJob, message: string): Promise<void> {
    return this.notes({ id: job.containerId, log: job.log }, message);
  }
}
