import { join } from "@std/path";
import { CriError, messageOf } from "../../base/error.ts";
import { FullLog } from "../../logs/full_log.ts";
import { UnwrittenLog } from "../../logs/unwritten_log.ts";
import { START_ERROR_EXIT_CODE, START_ERROR_REASON } from "../../store/container_state.ts";
import { SLURM_COMMAND_TIMEOUT_MS } from "./account.ts";
import { killScript } from "./cluster_scripts.ts";
import { LOST_EXIT_CODE } from "./queue.ts";
import { MAX_STATUS_BYTES, parseExit, parseStart } from "./status_files.ts";
import { copyTerminationMessage, terminationMount } from "./termination.ts";
import type { WatchedJob, WatchPlace } from "./watched_job.ts";
import { parseUsage } from "./usage.ts";
import { type SlurmWorkload, withWorkload, workloadOf } from "./workload.ts";

/** How often the status files are read of a job that left no news; what it uses it tells in no other way. */
const STATUS_INTERVAL_MS = 2_000;

/**
 * Looks at a job's status files, if it is time or `closely`, and copies a turn of its output. True when none is left to
 * copy. The exit file is looked for before the output is copied, so that an end is told with all of it; it becomes
 * `job.end`.
 * @throws CriError why the files cannot be read.
 */
export async function lookAtFiles(
  place: WatchPlace,
  job: WatchedJob,
  closely: boolean,
): Promise<boolean> {
  const container = place.containers.get(job.containerId);
  if (container === undefined) return true;
  if (job.end === undefined) {
    const sinceMs = place.clock.now() - (job.statusReadAtMs ?? -Infinity);
    // A clock that was set back must not stop the looks.
    const isDue = sinceMs >= STATUS_INTERVAL_MS || sinceMs < 0;
    if (closely || isDue || job.hasNews) await lookAtStatus(place, job, workloadOf(container));
    if (!job.begun && job.end === undefined) return true;
  }
  return await copyOutput(place, job);
}

async function lookAtStatus(
  place: WatchPlace,
  job: WatchedJob,
  workload: SlurmWorkload,
): Promise<void> {
  const now = place.clock.now();
  // Opening the folder lets a network file system forget which files were not there (nfs(5), LOOKUP caching).
  if (job.hasNews) await place.account.session.list(join(job.directory, "status"));
  const exit = await readStatus(place, job, "exit");
  const { earlierRunMs } = workload;
  job.begun = workload.job !== undefined;
  if (!job.begun) {
    const start = await readStatus(place, job, "start");
    if (start !== undefined && parseStart(start)?.timeMs !== earlierRunMs) {
      await noteStart(place, job, start);
      job.begun = true;
    }
  }
  // Without a start of this run's the exit is that of an earlier one, if there was one.
  if (exit !== undefined && (job.begun || earlierRunMs === undefined)) {
    takeExit(place, job, exit, workload);
  } else if (job.begun) await lookAtUsage(place, job);
  job.statusReadAtMs = now;
  delete job.hasNews;
}

/** Takes in what the job says that it uses; what was known before stands when it says nothing. */
async function lookAtUsage(place: WatchPlace, job: WatchedJob): Promise<void> {
  const bytes = await readStatus(place, job, "usage");
  const usage = bytes === undefined ? undefined : parseUsage(bytes);
  // Removed meanwhile: nobody would forget its use again.
  const container = place.containers.get(job.containerId);
  if (usage === undefined || container === undefined) return;
  const { startedAtMs = usage.measuredAtMs } = workloadOf(container).job ?? {};
  const { clusterClock } = place.account;
  place.usages.add(
    job.containerId,
    { ...usage, measuredAtMs: clusterClock.ours(usage.measuredAtMs) },
    clusterClock.ours(startedAtMs),
  );
}

/** Copies the termination message. Comes before the end is told: the kubelet reads the message once. */
export async function copyTermination(place: WatchPlace, job: WatchedJob): Promise<void> {
  const container = place.containers.get(job.containerId);
  const mount = container === undefined ? undefined : terminationMount(container.config);
  if (mount === undefined) return;
  try {
    await copyTerminationMessage(place.account.session, job.directory, mount.hostPath);
  } catch (error) {
    if (error instanceof CriError) throw error;
    place.log.error("Cannot write a container's termination message", {
      container: job.containerId,
      path: mount.hostPath,
      error: messageOf(error),
    });
  }
}

async function readStatus(
  { account }: WatchPlace,
  job: WatchedJob,
  name: "start" | "exit" | "usage",
): Promise<Uint8Array | undefined> {
  const told = name === "usage" ? undefined : job.onNode?.status(name);
  return told ?? await account.session.readFile(
    join(job.directory, "status", name),
    MAX_STATUS_BYTES,
  );
}

async function noteStart(place: WatchPlace, job: WatchedJob, bytes: Uint8Array): Promise<void> {
  const start = parseStart(bytes) ?? { jobId: job.jobId, host: "?", timeMs: place.clock.now() };
  if (start.jobId !== job.jobId) {
    // Slurm accepted two jobs for the container: this one has the claim, the other must not linger. A pod's job ends
    // with the pod.
    const container = place.containers.get(job.containerId);
    if (container !== undefined && !workloadOf(container).allocation) {
      const options = { timeoutMs: SLURM_COMMAND_TIMEOUT_MS };
      await place.account.session.run(killScript(job.jobId), options);
    }
    job.jobId = start.jobId;
  }
  place.containers.update(
    job.containerId,
    withWorkload(({ pending: _pending, ...workload }) => ({
      ...workload,
      jobId: job.jobId,
      slurmState: "RUNNING",
      job: { host: start.host, startedAtMs: start.timeMs },
    })),
  );
  await place.note(job, `job ${job.jobId} runs on ${start.host}`);
}

/** The exit code of a program that SIGKILL ended. */
const KILLED_EXIT_CODE = 137;

/** What Apptainer and Singularity end with when they cannot start the program. */
const RUNTIME_FAILED_EXIT_CODE = 255;

function meantExitCode(told: number, neverStarted: boolean, killed: boolean): number {
  if (neverStarted && told === RUNTIME_FAILED_EXIT_CODE) return START_ERROR_EXIT_CODE;
  // SIGKILL reaches the processes of the container's runtime too, in any order: whichever signal is told then
  // (SIGBUS, when the image's file system went first), it is the kill that ended the program.
  return killed && told > 128 ? KILLED_EXIT_CODE : told;
}

function takeExit(
  place: WatchPlace,
  job: WatchedJob,
  bytes: Uint8Array,
  { stop }: SlurmWorkload,
): void {
  const now = place.clock.now();
  const told = parseExit(bytes);
  if (told === undefined) {
    const message = "The job's exit file is damaged";
    job.end = { finishedAtMs: now, exitCode: LOST_EXIT_CODE, reason: "Error", message };
    return;
  }
  const neverStarted = told.error !== undefined;
  const exitCode = meantExitCode(told.exitCode, neverStarted, stop?.killed === true);
  job.end = {
    finishedAtMs: Math.min(place.account.clusterClock.ours(told.timeMs), now),
    exitCode,
    reason: neverStarted ? START_ERROR_REASON : exitCode === 0 ? "Completed" : "Error",
    message: told.error ?? (stop === undefined ? "" : "The container was stopped"),
  };
  if (told.signalled && stop === undefined) job.doubtedSinceMs = now;
}

/** How often output is looked for in a way that takes more requests and is told no old attributes. */
const CERTAIN_INTERVAL_MS = 2_000;

/** True when nothing is left. A log that cannot be written (disk full) must not keep an end from being told. */
async function copyOutput(place: WatchPlace, job: WatchedJob): Promise<boolean> {
  const now = place.clock.now();
  const certain = now - (job.openedAtMs ?? -Infinity) >= CERTAIN_INTERVAL_MS;
  job.copying = false;
  job.unwritten ??= new UnwrittenLog(job.containerId, job.log.path, place.log, place.clock);
  const final = job.end !== undefined;
  const { session } = place.account;
  if (job.unwritten.rests && !final) return true;
  try {
    if (final) await job.onNode?.finish();
    const { atEnd, lively } = !final && job.onNode?.live
      ? { atEnd: true, lively: job.onNode.takeLively() }
      : await job.output.follow(place.output, { certain, final });
    if (certain) job.openedAtMs = now;
    if (lively) job.wroteAtMs = now;
    job.copying = !atEnd;
    job.full ??= new FullLog(job.log, place.clock, (message) => place.note(job, message));
    const waits = atEnd &&
      await job.full.waits(final, (stream) => job.output.missingBytes(session, stream));
    job.unwritten.written();
    return atEnd && !waits;
  } catch (error) {
    if (error instanceof CriError) throw error;
    job.unwritten.failed(error);
    if (!final) return true;
    const [stdout, stderr] = [
      await job.output.missingBytes(session, "stdout"),
      await job.output.missingBytes(session, "stderr"),
    ];
    job.unwritten.lost(stdout, stderr);
    return true;
  }
}
