import type { ContainerRecord } from "../../store/records.ts";
import { NodeFollower } from "./node_follower.ts";
import { type QueueEntry, readPostMortem } from "./queue.ts";
import { isBackInQueue, putBack } from "./requeue.ts";
import type { WatchedJob, WatchPlace } from "./watched_job.ts";
import { withWorkload, workloadOf } from "./workload.ts";

/** A job that Slurm calls ended gets this long to show its own exit file, which a slow home may delay. */
const EXIT_FILE_GRACE_MS = 3_000;

/** A job whose script has ended is called so by Slurm within this time, after its epilogue. */
const VERDICT_GRACE_MS = 5_000;

/** Priority and expected start change with every round of some schedulers; the log tells them so often at most. */
const WAIT_NOTE_INTERVAL_MS = 5 * 60_000;

/** Reasons that are the program's own, whatever signal ended it, and that of a job which Slurm forgot. */
const PROGRAM_REASONS: ReadonlySet<string> = new Set(["Completed", "Error", "JobLost"]);

/**
 * Takes in what squeue says of a job, undefined for one that it does not know: why it waits, or, when no exit file
 * came within the grace, that it ended (`job.end`).
 * @throws CriError UNAVAILABLE when Slurm cannot be asked how it ended.
 */
export async function lookAtQueue(
  place: WatchPlace,
  job: WatchedJob,
  entry: QueueEntry | undefined,
): Promise<void> {
  const container = place.containers.get(job.containerId);
  if (container === undefined) return;
  if (entry !== undefined && entry.phase !== "ended") {
    delete job.endedSinceMs;
    await noteQueue(place, job, container, entry);
    if (place.account.settings.followOnNode && entry.phase === "running") {
      job.onNode ??= new NodeFollower(job, place.account, place.clock, place.log);
    }
    return;
  }
  job.endedSinceMs ??= place.clock.now();
  const { stop } = workloadOf(container);
  // A job that never had a node has no exit file to wait for, nor has one whose script was killed.
  const neverRan = entry?.nodes === "" && workloadOf(container).job === undefined;
  const graceless = neverRan || stop?.killed === true;
  if (!graceless && place.clock.now() - job.endedSinceMs < EXIT_FILE_GRACE_MS) return;
  const verdict = await readPostMortem(place.account, job.directory, job.jobId, entry?.state);
  if (verdict.kind === "pending") return await putBack(place, job);
  if (verdict.kind === "running") {
    delete job.endedSinceMs;
    return;
  }
  const { kind: _kind, ...end } = verdict;
  job.end = {
    finishedAtMs: place.clock.now(),
    ...end,
    // An end that was asked for is the one the client expects: 143 for SIGTERM, 137 for SIGKILL.
    ...(stop === undefined ? {} : {
      exitCode: stop.killed ? 137 : 143,
      reason: "Cancelled",
      ...(end.reason === "Cancelled" ? { message: "The container was stopped" } : {}),
    }),
  };
}

/**
 * Whether it is settled how a job ended. Where a signal that was not ours came to it, Slurm may have sent it (time
 * limit, somebody's scancel, preemption, memory) and is asked; its verdict replaces the program's own code, and a job
 * that Slurm runs again has not ended at all.
 * @throws CriError UNAVAILABLE when Slurm cannot be asked.
 */
export async function isSettled(place: WatchPlace, job: WatchedJob): Promise<boolean> {
  if (job.end === undefined || job.doubtedSinceMs === undefined) return true;
  const verdict = await readPostMortem(place.account, job.directory, job.jobId, undefined);
  if (verdict.kind === "pending") {
    await putBack(place, job);
    return false;
  }
  if (verdict.kind === "running" && place.clock.now() - job.doubtedSinceMs < VERDICT_GRACE_MS) {
    return false;
  }
  delete job.doubtedSinceMs;
  if (verdict.kind === "ended" && !PROGRAM_REASONS.has(verdict.reason)) {
    const { kind: _kind, ...end } = verdict;
    job.end = { ...job.end, ...end };
  }
  return true;
}

/** Takes in what squeue says of a job that lives. */
async function noteQueue(
  place: WatchPlace,
  job: WatchedJob,
  container: ContainerRecord,
  entry: QueueEntry,
): Promise<void> {
  // The controller calls a job running before it lets it begin.
  if (isBackInQueue(entry, workloadOf(container))) await putBack(place, job);
  const before = workloadOf(place.containers.get(job.containerId) ?? container);
  const { partition } = entry;
  if (before.partition !== partition) {
    place.containers.update(
      job.containerId,
      withWorkload((workload) => ({ ...workload, partition })),
    );
  }
  if (entry.phase !== "pending" || before.job !== undefined) return;
  const { reason, expectedStart, priority } = entry;
  const same = before.slurmState === entry.state && before.pending?.reason === reason &&
    before.pending.expectedStart === expectedStart && before.pending.priority === priority;
  if (same) return;
  place.containers.update(
    job.containerId,
    withWorkload((workload) => ({
      ...workload,
      slurmState: entry.state,
      pending: { reason, expectedStart, priority },
    })),
  );
  // "None": Slurm has not looked at the job yet.
  if (reason === "None") return;
  const now = place.clock.now();
  const told = job.toldWait?.reason ?? before.pending?.reason;
  const recently = job.toldWait !== undefined && now - job.toldWait.atMs < WAIT_NOTE_INTERVAL_MS;
  if (told === reason && recently) return;
  job.toldWait = { reason, atMs: now };
  const start = expectedStart === "" ? "" : `, expected start ${expectedStart}`;
  await place.note(job, `job ${job.jobId} waits: ${reason}, priority ${priority}${start}`);
}
