import { join } from "@std/path";
import { CriError, messageOf } from "../../base/error.ts";
import { START_ERROR_EXIT_CODE, START_ERROR_REASON } from "../../store/container_state.ts";
import { SLURM_COMMAND_TIMEOUT_MS } from "./account.ts";
import { killScript } from "./cluster_scripts.ts";
import { LOST_EXIT_CODE } from "./queue.ts";
import { MAX_STATUS_BYTES, parseExit, parseStart } from "./status_files.ts";
import { copyTerminationMessage, terminationMount } from "./termination.ts";
import type { WatchedJob, WatchPlace } from "./watched_job.ts";
import { parseUsage } from "./usage.ts";
import { type SlurmWorkload, withWorkload, workloadOf } from "./workload.ts";

/**
 * Looks at a job's status files and copies a turn of its output. True when none is left to copy. The exit file is
 * looked for before the output is copied, so that an end is told with all of it; it becomes `job.end`.
 * @throws CriError why the files cannot be read.
 */
export async function lookAtFiles(place: WatchPlace, job: WatchedJob): Promise<boolean> {
  const container = place.containers.get(job.containerId);
  if (container === undefined) return true;
  if (job.end === undefined) {
    const exit = await readStatus(place, job, "exit");
    const { job: run, earlierRunMs } = workloadOf(container);
    if (run === undefined) {
      const start = await readStatus(place, job, "start");
      const isOfEarlierRun = start !== undefined && parseStart(start)?.timeMs === earlierRunMs;
      if (start !== undefined && !isOfEarlierRun) await noteStart(place, job, start);
      else if (exit === undefined || earlierRunMs !== undefined) return true;
    }
    if (exit !== undefined) takeExit(place, job, exit, workloadOf(container));
    else await lookAtUsage(place, job);
  }
  return await copyOutput(place, job);
}

/** A job writes its usage every ten seconds unless told otherwise; a look costs one read. */
const USAGE_INTERVAL_MS = 2_000;

/** Takes in what the job says that it uses; what was known before stands when it says nothing. */
async function lookAtUsage(place: WatchPlace, job: WatchedJob): Promise<void> {
  const now = place.clock.now();
  if (job.usageReadAtMs !== undefined && now - job.usageReadAtMs < USAGE_INTERVAL_MS) return;
  job.usageReadAtMs = now;
  const bytes = await readStatus(place, job, "usage");
  const usage = bytes === undefined ? undefined : parseUsage(bytes);
  // Removed meanwhile: nobody would forget its use again.
  const container = place.containers.get(job.containerId);
  if (usage === undefined || container === undefined) return;
  const { startedAtMs = usage.measuredAtMs } = workloadOf(container).job ?? {};
  place.usages.add(job.containerId, usage, startedAtMs);
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

function readStatus(
  { account }: WatchPlace,
  job: WatchedJob,
  name: string,
): Promise<Uint8Array | undefined> {
  return account.session.readFile(join(job.directory, "status", name), MAX_STATUS_BYTES);
}

async function noteStart(place: WatchPlace, job: WatchedJob, bytes: Uint8Array): Promise<void> {
  const start = parseStart(bytes) ?? { jobId: job.jobId, host: "?", timeMs: place.clock.now() };
  if (start.jobId !== job.jobId) {
    // Slurm accepted two jobs for the container: this one has the claim, the other must not linger. A pod's job ends with
    // the pod.
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
    finishedAtMs: Math.min(told.timeMs, now),
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
  try {
    const final = job.end !== undefined;
    const { atEnd, lively } = await job.output.follow(place.output, { certain, final });
    if (certain) job.openedAtMs = now;
    if (lively) job.wroteAtMs = now;
    job.copying = !atEnd;
    return atEnd && !await waitsForRotation(place, job);
  } catch (error) {
    if (error instanceof CriError) throw error;
    place.log.error("Cannot write a container's log", {
      container: job.containerId,
      error: messageOf(error),
    });
    return true;
  }
}

/**
 * How long a full log is waited for when the program has ended. A kubelet looks every ten seconds whether a log is to
 * be rotated (containerLogMonitorInterval), as long as the container runs; without a kubelet nobody may.
 */
const ROTATION_WAIT_MS = 30_000;

/** Says that the log is full. True while the rest of an ended job's output waits for the log's rotation. */
async function waitsForRotation(place: WatchPlace, job: WatchedJob): Promise<boolean> {
  if (!job.log.isFull) {
    delete job.fullSinceMs;
    return false;
  }
  if (job.fullSinceMs === undefined) {
    job.fullSinceMs = place.clock.now();
    await place.note(
      job,
      "the log is full (--max-log-bytes): the output goes on when the log is rotated",
    );
  }
  if (job.end === undefined || job.leftOutNoted) return false;
  const { session } = place.account;
  const stdout = await job.output.missingBytes(session, "stdout");
  const stderr = await job.output.missingBytes(session, "stderr");
  if (stdout + stderr === 0) return false;
  if (place.clock.now() - job.fullSinceMs < ROTATION_WAIT_MS) return true;
  job.leftOutNoted = true;
  await place.note(
    job,
    `the log is full and nobody rotates it: ${stdout} bytes of stdout and ${stderr} of stderr are left out`,
  );
  return false;
}
