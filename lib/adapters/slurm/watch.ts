import type { Clock } from "../../base/clock.ts";
import { CriError, messageOf } from "../../base/error.ts";
import type { Logger } from "../../base/log.ts";
import type { ContainerLog } from "../../logs/container_log.ts";
import { type ContainerEnd, markExited } from "../../store/container_state.ts";
import type { ContainerRecord } from "../../store/records.ts";
import type { Table } from "../../store/table.ts";
import type { ClusterAccount } from "./account.ts";
import { readTurns } from "./follow.ts";
import { chooseJobs, LOOK_INTERVAL_MS } from "./look_turns.ts";
import { takeNews } from "./news.ts";
import { type QueueEntry, readQueue } from "./queue.ts";
import type { JobUsages } from "./usage.ts";
import { copyTermination, lookAtFiles } from "./watch_files.ts";
import { isSettled, lookAtQueue } from "./watch_queue.ts";
import { UNANSWERED, type WatchedJob, type WatchPlace } from "./watched_job.ts";
import { workloadOf } from "./workload.ts";

/** The pause after a look that itself took as long as a look's interval: others must be let in. */
const LEAST_PAUSE_MS = 30;
/** The pause between two looks while there is output left to copy: others have been let in before. */
const COPYING_INTERVAL_MS = 1;
/** How often Slurm is asked, in one command for all jobs: pending reasons, and ends without a word. */
const QUEUE_INTERVAL_MS = 5_000;
/** The same while a job is being stopped, which someone waits for. */
const QUEUE_INTERVAL_STOPPING_MS = 1_000;
/** How long a pass waits for Slurm's answer; a busy controller's comes in a later one, and logs go on meanwhile. */
const QUEUE_PATIENCE_MS = 100;
/** Pause after an error, so that an unreachable cluster is not asked all the time. */
const ERROR_PAUSE_MS = 1_000;

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
  /** What Slurm was asked and has not answered, and the jobs for which the answer counts. */
  #asking: { jobs: readonly WatchedJob[]; answer: Promise<Map<string, QueueEntry>> } | undefined;
  readonly #place: WatchPlace;
  /** Why the last look at the cluster failed; undefined when it succeeded. */
  staleSince: { atMs: number; error: string } | undefined;

  constructor(
    readonly account: ClusterAccount,
    readonly containers: Table<ContainerRecord>,
    usages: JobUsages,
    readonly notes: (job: { id: string; log: ContainerLog }, message: string) => Promise<void>,
    readonly ended: (containerId: string) => void,
    readonly clock: Clock,
    readonly log: Logger,
  ) {
    const note = (job: WatchedJob, message: string) =>
      notes({ id: job.containerId, log: job.log }, message);
    const output = { session: account.session, turns: readTurns() };
    this.#place = { account, output, containers, usages, clock, log, note };
  }

  add(job: WatchedJob): void {
    this.#jobs.set(job.containerId, job);
    this.#wake?.();
    this.#loop ??= this.#run();
  }

  /** Resolves when nothing more is written into its log. */
  async remove(containerId: string): Promise<void> {
    const job = this.#jobs.get(containerId);
    this.#jobs.delete(containerId);
    await job?.onNode?.stop();
    await job?.look;
  }

  watches(containerId: string): boolean {
    return this.#jobs.has(containerId);
  }

  /** Resolves when jobs have been looked at once more, and each at least once, whether that succeeded or not. */
  async nextPass(): Promise<void> {
    const unseen = () => [...this.#jobs.values()].some((job) => job.lookedAtMs === undefined);
    if (this.#jobs.size === 0) return;
    do await this.#passes.promise; while (unseen() && !this.#stop.signal.aborted);
  }

  async close(): Promise<void> {
    this.#stop.abort();
    this.#wake?.();
    await this.#loop;
    const onNodes = [...this.#jobs.values()].flatMap(({ onNode }) => onNode ?? []);
    await Promise.all(onNodes.map(async (onNode) => {
      await onNode.stop();
      await onNode.ended;
    }));
    await this.#asking?.answer.catch(() => {});
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      let pauseMs = LOOK_INTERVAL_MS;
      if (this.#jobs.size === 0) {
        await this.#untilWoken();
        continue;
      }
      const begunMs = this.clock.now();
      try {
        await this.#pass();
        pauseMs -= Math.max(0, Math.min(this.clock.now() - begunMs, pauseMs - LEAST_PAUSE_MS));
        if ([...this.#jobs.values()].some((job) => job.copying)) pauseMs = COPYING_INTERVAL_MS;
        if (this.staleSince !== undefined && this.#asking === undefined) {
          this.log.info("The cluster can be looked at again", { cluster: this.account.name });
        }
        if (this.#asking === undefined) this.staleSince = undefined;
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
   * Looks at the jobs whose turn it is, whatever happens with another, then throws what went wrong first. When Slurm is
   * to be asked, it is every job's turn.
   */
  async #pass(): Promise<void> {
    const now = this.clock.now();
    const asksSlurm = this.#asking === undefined &&
      now - this.#queueReadAtMs >= this.#queueIntervalMs();
    await this.account.clusterClock.learn();
    await takeNews(this.account.session, this.#jobs);
    const all = [...this.#jobs.values()];
    const jobs = asksSlurm ? all : chooseJobs(all, now);
    for (const job of jobs) job.lookedAtMs = now;
    const looks = await Promise.allSettled(jobs.map((job) => this.#look(job, asksSlurm)));
    const failures = looks.filter((look) => look.status === "rejected");
    // Only a job that was submitted before squeue ran can be missing from its answer, and without an answer from
    // its files it may not be called ended.
    const asked = jobs.filter((job, index) =>
      looks[index]?.status === "fulfilled" && this.#jobs.has(job.containerId) &&
      job.end === undefined
    );
    if (asksSlurm && asked.length > 0) {
      this.#asking = { jobs: asked, answer: readQueue(this.account) };
    }
    for (const [job, entry] of await this.#slurmSays()) {
      const [look] = await Promise.allSettled([this.#ask(job, entry)]);
      if (look.status === "rejected") failures.push(look);
    }
    if (failures[0] !== undefined) throw failures[0].reason;
  }

  /** What Slurm says of the jobs that it was asked for; of none while it has not answered. */
  async #slurmSays(): Promise<[WatchedJob, QueueEntry | undefined][]> {
    if (this.#asking === undefined) return [];
    const { jobs, answer } = this.#asking;
    const over = new AbortController();
    const patience = AbortSignal.any([over.signal, this.#stop.signal]);
    const unanswered = this.clock.sleep(QUEUE_PATIENCE_MS, patience).then(
      () => undefined,
      () => undefined,
    );
    try {
      const queue = await Promise.race([answer, unanswered]);
      if (queue === undefined) return [];
      this.#asking = undefined;
      this.#queueReadAtMs = this.clock.now();
      return jobs
        .filter(({ containerId, end }) => this.#jobs.has(containerId) && end === undefined)
        .map((job) => [job, queue.get(job.jobId)]);
    } catch (error) {
      this.#asking = undefined;
      throw error;
    } finally {
      over.abort();
    }
  }

  #look(job: WatchedJob, closely: boolean): Promise<void> {
    const look = this.#lookNow(job, closely);
    job.look = look.catch(() => {});
    return look;
  }

  /** A job whose own files cannot be read is left to squeue. */
  async #lookNow(job: WatchedJob, closely: boolean): Promise<void> {
    let atEnd: boolean;
    try {
      atEnd = await lookAtFiles(this.#place, job, closely);
    } catch (error) {
      await this.#noteUnreadable(job, error);
      atEnd = true;
    }
    if (atEnd && await isSettled(this.#place, job) && job.end !== undefined) {
      await this.#tellEnd(job, job.end);
    }
  }

  async #ask(job: WatchedJob, entry: QueueEntry | undefined): Promise<void> {
    await lookAtQueue(this.#place, job, entry);
    // Removed meanwhile: nobody else would end what follows it on its node.
    if (this.#jobs.get(job.containerId) !== job) return await job.onNode?.stop();
    if (job.end !== undefined) await this.#look(job, false);
  }

  /** Says once that a job's files cannot be read. @throws what says nothing about the job. */
  async #noteUnreadable(job: WatchedJob, error: unknown): Promise<void> {
    const answered = this.account.session.state.kind === "ready";
    if (!(error instanceof CriError) || UNANSWERED.has(error.code) || !answered) throw error;
    if (job.unreadable) return;
    job.unreadable = true;
    this.log.warning("Cannot read a job's files; Slurm alone tells how it goes", {
      container: job.containerId,
      error: messageOf(error),
    });
    await this.#place.note(
      job,
      `the files of job ${job.jobId} cannot be read: ${messageOf(error)}`,
    );
  }

  #queueIntervalMs(): number {
    const stopping = [...this.#jobs.keys()].some((id) => {
      const container = this.containers.get(id);
      return container !== undefined && workloadOf(container).stop !== undefined;
    });
    return stopping ? QUEUE_INTERVAL_STOPPING_MS : QUEUE_INTERVAL_MS;
  }

  async #tellEnd(job: WatchedJob, end: ContainerEnd): Promise<void> {
    await job.onNode?.stop();
    await copyTermination(this.#place, job).catch((error) => this.#noteUnreadable(job, error));
    if (end.reason !== "Completed" && end.message !== "" && !job.endNoted) {
      job.endNoted = true;
      await this.#place.note(job, `job ${job.jobId} ended with ${end.exitCode}: ${end.message}`);
    }
    this.containers.update(
      job.containerId,
      (container) => ({ ...container, state: markExited(container.state, end) }),
    );
    this.#jobs.delete(job.containerId);
    this.ended(job.containerId);
  }
}
