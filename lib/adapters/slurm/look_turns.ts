import type { WatchedJob } from "./watched_job.ts";

/**
 * How often a job's files are looked at, where there are few jobs: half of the delay of logs and ends. A look costs
 * two requests, together 0.1 ms of sftp.
 */
export const LOOK_INTERVAL_MS = 150;

/** How much too early a timer may end by the clock that looks are counted with. */
const EARLY_MS = 5;

/** Jobs looked at together. More take turns, so that thousands of them do not keep a shared file system busy. */
export const MAX_LOOKS_AT_ONCE = 100;

/** A job that wrote within this time is likely to write again. */
const LIVELY_MS = 10_000;
/** So many times longer a silent job waits for its turn when not all can be looked at. */
const LIVELY_WEIGHT = 10;

/**
 * Which jobs are looked at now: those whose interval is over, at most MAX_LOOKS_AT_ONCE, those first that have waited
 * longest, by their weight; none waits for ever. A job that was never looked at, has news, or has output left to copy,
 * never waits. One that has not begun writes nothing: its news is waited for, or the next question to Slurm.
 */
export function chooseJobs(jobs: readonly WatchedJob[], nowMs: number): WatchedJob[] {
  const waited = ({ lookedAtMs, wroteAtMs = -Infinity }: WatchedJob) =>
    (nowMs - (lookedAtMs ?? 0)) * (nowMs - wroteAtMs < LIVELY_MS ? LIVELY_WEIGHT : 1);
  const isUrgent = ({ lookedAtMs, copying, hasNews }: WatchedJob) =>
    lookedAtMs === undefined || copying === true || hasNews === true;
  const first = jobs.filter(isUrgent);
  const others = jobs
    .filter((job) => {
      const { begun = false, end, lookedAtMs = 0 } = job;
      // A clock that was set back must not stop the looks.
      return (begun || end !== undefined) && !isUrgent(job) &&
        (nowMs - lookedAtMs >= LOOK_INTERVAL_MS - EARLY_MS || nowMs < lookedAtMs);
    })
    .toSorted((a, b) => waited(b) - waited(a));
  return [...first, ...others.slice(0, Math.max(0, MAX_LOOKS_AT_ONCE - first.length))];
}
