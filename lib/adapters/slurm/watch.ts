import { join } from "@std/path";
import type { Clock } from "../../base/clock.ts";
import { CriError, messageOf } from "../../base/error.ts";
import type { Logger } from "../../base/log.ts";
import type { ContainerLog } from "../../logs/container_log.ts";
import { type ContainerEnd, markExited } from "../../store/container_state.ts";
import type { ContainerRecord } from "../../store/records.ts";
import type { Table } from "../../store/table.ts";
import type { ClusterAccount } from "./account.ts";
import { followOutput } from "./follow.ts";
import { LOST_EXIT_CODE, type QueueEntry, readPostMortem, readQueue } from "./queue.ts";
import { MAX_STATUS_BYTES, parseExit, parseStart } from "./status_files.ts";
import { withWorkload, workloadOf } from "./workload.ts";

/** How often the jobs' files are looked at: cheap (0.1 ms a file), and the delay of logs and ends. */
const FILES_INTERVAL_MS = 200;
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
  readonly jobId: string;
  readonly log: ContainerLog;
  /** When Slurm was first seen to call it ended or not to know it; undefined while it lives. */
  endedSinceMs?: number;
}

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
    readonly notes: (containerId: string, message: string) => Promise<void>,
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
      let pauseMs = FILES_INTERVAL_MS;
      if (this.#jobs.size === 0) {
        await this.#untilWoken();
        continue;
      }
      try {
        await this.#pass();
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

  /** Looks at every job, whatever happens with another; then throws what went wrong first. */
  async #pass(): Promise<void> {
    const jobs = [...this.#jobs.values()];
    const looks = await Promise.allSettled(jobs.map((job) => this.#lookAtFiles(job)));
    const failures = looks.filter((look) => look.status === "rejected");
    // Only a job whose files could be read may be called ended without an exit file, and only one that was
    // submitted before squeue ran can be missing from its answer.
    const asked = jobs.filter((job, index) =>
      looks[index]?.status === "fulfilled" && this.#jobs.has(job.containerId)
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
  }

  #queueIntervalMs(): number {
    const stopping = [...this.#jobs.keys()].some((id) => {
      const container = this.containers.get(id);
      return container !== undefined && workloadOf(container).stop !== undefined;
    });
    return stopping ? QUEUE_INTERVAL_STOPPING_MS : QUEUE_INTERVAL_MS;
  }

  /** The exit file is looked for before the output is copied, so that an end is reported with all of it. */
  async #lookAtFiles(job: WatchedJob): Promise<void> {
    const container = this.containers.get(job.containerId);
    if (container === undefined) return;
    const { session } = this.account;
    const status = (name: string) =>
      session.readFile(join(job.directory, "status", name), MAX_STATUS_BYTES);
    const exit = await status("exit");
    if (workloadOf(container).job === undefined) {
      const start = await status("start");
      if (start !== undefined) {
        const { host, timeMs } = parseStart(start) ?? { host: "?", timeMs: this.clock.now() };
        this.containers.update(
          job.containerId,
          withWorkload(({ pending: _pending, ...workload }) => ({
            ...workload,
            slurmState: "RUNNING",
            job: { host, startedAtMs: timeMs },
          })),
        );
        await this.notes(job.containerId, `job ${job.jobId} runs on ${host}`);
      } else if (exit === undefined) {
        return;
      }
    }
    await this.#copyOutput(job, exit !== undefined);
    if (exit === undefined) return;
    const { exitCode, error, timeMs } = parseExit(exit) ?? {
      exitCode: LOST_EXIT_CODE,
      error: "The job's exit file is damaged",
      timeMs: this.clock.now(),
    };
    const stopped = workloadOf(container).stop !== undefined;
    await this.#end(job, {
      finishedAtMs: Math.min(timeMs, this.clock.now()),
      exitCode,
      reason: error !== undefined ? "StartError" : exitCode === 0 ? "Completed" : "Error",
      message: error ?? (stopped ? "The container was stopped" : ""),
    });
  }

  /** A log that cannot be written (disk full) must not keep an end from being seen. */
  async #copyOutput(job: WatchedJob, final: boolean): Promise<void> {
    try {
      await followOutput(this.account.session, job.directory, job.log, final);
    } catch (error) {
      if (error instanceof CriError) throw error;
      this.log.error("Cannot write a container's log", {
        container: job.containerId,
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
    await this.#copyOutput(job, true);
    await this.#end(job, {
      finishedAtMs: this.clock.now(),
      ...end,
      // An end that was asked for is the one the client expects: 143 for SIGTERM, 137 for SIGKILL.
      ...(stop === undefined ? {} : { exitCode: stop.killed ? 137 : 143, reason: "Cancelled" }),
    });
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
    await this.notes(job.containerId, `job ${job.jobId} waits: ${reason}${start}`);
  }

  async #end(job: WatchedJob, end: ContainerEnd): Promise<void> {
    this.#jobs.delete(job.containerId);
    if (end.reason !== "Completed" && end.message !== "") {
      await this.notes(
        job.containerId,
        `job ${job.jobId} ended with ${end.exitCode}: ${end.message}`,
      );
    }
    this.containers.update(
      job.containerId,
      (container) => ({ ...container, state: markExited(container.state, end) }),
    );
    this.ended(job.containerId);
  }
}
