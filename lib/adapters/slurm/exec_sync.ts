import type { Clock } from "../../base/clock.ts";
import { CriError, messageOf } from "../../base/error.ts";
import type { ContainerRecord } from "../../store/records.ts";
import type { Store } from "../../store/store.ts";
import type { ExecResult } from "../adapter.ts";
import type { ActiveContainers } from "./active.ts";
import { ContainerStarting, execInJob } from "./exec.ts";
import { workingDirectory } from "./job.ts";
import { workloadOf } from "./workload.ts";

/** Between looks at a container that is starting; a prerun may take minutes. */
const STARTING_PAUSE_MS = 1_000;
/** A command without a time limit is tried again this long when it cannot begin: a connection may come back. */
const TRY_AGAIN_MS = 60_000;

/** A job that was submitted so lately has not been looked at by Slurm yet; most begin within this time. */
const FRESH_JOB_MS = 3_000;
/** Why a job waits that Slurm's scheduler has not looked at (Slurm's job reason codes). */
const NOT_CONSIDERED = "None";

/**
 * Runs a command in a container and waits for its end.
 *
 * While the container's job waits in the queue, a command with a time limit is refused at once: it is a probe, and
 * UNAVAILABLE makes the kubelet discard the result, where a failure could end the pod. Only a job that was submitted
 * a moment ago gets that moment to begin. A command without a limit is a hook, whose failure ends the container: it
 * waits for the job, however long the queue is.
 *
 * @throws CriError as `execInJob`.
 */
export async function execSync(
  active: ActiveContainers,
  store: Store,
  clock: Clock,
  id: string,
  argv: readonly string[],
  timeoutMs: number,
  signal: AbortSignal,
): Promise<ExecResult> {
  let failingSinceMs: number | undefined;
  for (;;) {
    const container = timeoutMs > 0
      ? await runningSoon(store, clock, id, signal)
      : await running(store, id, signal);
    const { job, jobId, directory } = workloadOf(container);
    const image = store.images.get(container.imageId);
    if (job === undefined || jobId === undefined || directory === undefined || !image) {
      throw new CriError("INTERNAL", `The record of the running container ${id} lacks its job.`);
    }
    const { account } = await active.of(id);
    try {
      return await execInJob(
        {
          containerId: id,
          jobId,
          host: job.host,
          directory,
          workingDirectory: workingDirectory(container.config, image.config),
          argv,
          timeoutMs,
        },
        account,
        clock,
        signal,
      );
    } catch (error) {
      const failure = error instanceof ContainerStarting
        ? new CriError("UNAVAILABLE", messageOf(error))
        : CriError.from(error);
      signal.throwIfAborted();
      if (timeoutMs > 0 || failure.code !== "UNAVAILABLE") throw failure;
      if (error instanceof ContainerStarting) failingSinceMs = undefined;
      else failingSinceMs ??= clock.now();
      if (failingSinceMs !== undefined && clock.now() - failingSinceMs >= TRY_AGAIN_MS) {
        throw failure;
      }
    }
    await clock.sleep(STARTING_PAUSE_MS, signal);
  }
}

/** @throws CriError UNAVAILABLE while its job does not run, unless that is a matter of a moment. */
async function runningSoon(
  store: Store,
  clock: Clock,
  id: string,
  signal: AbortSignal,
): Promise<ContainerRecord> {
  const { submittedAtMs, pending } = workloadOf(alive(store.containers.get(id), id));
  const patienceMs = (submittedAtMs ?? 0) + FRESH_JOB_MS - clock.now();
  const mustWait = pending !== undefined && pending.reason !== NOT_CONSIDERED;
  if (patienceMs > 0 && !mustWait) {
    const over = new AbortController();
    const either = AbortSignal.any([signal, over.signal]);
    await Promise.race([
      running(store, id, either).catch(() => {}),
      clock.sleep(patienceMs, either).catch(() => {}),
    ]);
    over.abort();
    signal.throwIfAborted();
  }
  return runningNow(store, id);
}

function runningNow(store: Store, id: string): ContainerRecord {
  const container = alive(store.containers.get(id), id);
  const { job, jobId, pending } = workloadOf(container);
  if (job !== undefined) return container;
  const why = jobId === undefined
    ? "its job is being submitted"
    : `its job ${jobId} waits${pending === undefined ? "" : `: ${pending.reason}`}`;
  throw new CriError("UNAVAILABLE", `Cannot run a command in the container ${id} yet: ${why}.`);
}

/** Waits until its job runs. */
async function running(store: Store, id: string, signal: AbortSignal): Promise<ContainerRecord> {
  const container = await store.containers.waitFor(
    id,
    (record) => !isAlive(record) || workloadOf(record).job !== undefined,
    signal,
  );
  return alive(container, id);
}

function isAlive({ state }: ContainerRecord): boolean {
  return state.phase === "starting" || state.phase === "running";
}

function alive(container: ContainerRecord | undefined, id: string): ContainerRecord {
  if (container !== undefined && isAlive(container)) return container;
  throw new CriError(
    "FAILED_PRECONDITION",
    `Cannot run a command in the container ${id}: it must be running, but it is ` +
      `${container?.state.phase ?? "removed"}.`,
  );
}
