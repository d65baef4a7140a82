/** Jobs that Slurm ends and runs again: preempted ones, those of failed nodes, those that somebody requeues. */
import type { QueueEntry } from "./queue.ts";
import type { WatchedJob, WatchPlace } from "./watched_job.ts";
import { type SlurmWorkload, withWorkload } from "./workload.ts";

/**
 * States of a job that waits for another run. A job that is being configured is no such one: its node may have begun
 * with it.
 */
const WAITING_AGAIN: ReadonlySet<string> = new Set([
  "PENDING",
  "REQUEUED",
  "REQUEUE_FED",
  "REQUEUE_HOLD",
  "SPECIAL_EXIT",
]);

/** Whether a job that ran waits again. */
export function isBackInQueue(entry: QueueEntry, workload: SlurmWorkload): boolean {
  return workload.job !== undefined && WAITING_AGAIN.has(entry.state);
}

/**
 * Takes in that Slurm put a job back into the queue: whatever its files tell is of the run before, until the next one
 * replaces them.
 */
export async function putBack(place: WatchPlace, job: WatchedJob): Promise<void> {
  delete job.endedSinceMs;
  delete job.end;
  delete job.doubtedSinceMs;
  delete job.begun;
  await job.onNode?.stop();
  delete job.onNode;
  let ran = false;
  place.containers.update(
    job.containerId,
    withWorkload(({ job: run, ...workload }) => {
      ran = run !== undefined;
      return run === undefined ? workload : { ...workload, earlierRunMs: run.startedAtMs };
    }),
  );
  if (ran) await place.note(job, `job ${job.jobId} was put back into the queue by Slurm`);
}
