/** The job of a container that somebody wants to reach into. */
import type { Clock } from "../../base/clock.ts";
import { CriError } from "../../base/error.ts";
import type { ContainerRecord } from "../../store/records.ts";
import type { Store } from "../../store/store.ts";
import type { ExecRequest } from "./exec.ts";
import { workingDirectory } from "./job.ts";
import { workloadOf } from "./workload.ts";

/** A job that was submitted so lately has not been looked at by Slurm yet; most begin within this time. */
const FRESH_JOB_MS = 3_000;
/** Why a job waits that Slurm's scheduler has not looked at (Slurm's job reason codes). */
const NOT_CONSIDERED = "None";

/** What somebody wants of a container, for the sentence that says why it cannot be had. */
export type Wish = "run a command in" | "attach to" | "connect to a port of";

/** @throws CriError UNAVAILABLE while its job does not run, unless that is a matter of a moment. */
export async function runningSoon(
  store: Store,
  clock: Clock,
  id: string,
  wish: Wish,
  signal: AbortSignal,
): Promise<ContainerRecord> {
  const { submittedAtMs, pending } = workloadOf(alive(store.containers.get(id), id, wish));
  const patienceMs = (submittedAtMs ?? 0) + FRESH_JOB_MS - clock.now();
  const mustWait = pending !== undefined && pending.reason !== NOT_CONSIDERED;
  if (patienceMs > 0 && !mustWait) {
    const over = new AbortController();
    const either = AbortSignal.any([signal, over.signal]);
    await Promise.race([
      running(store, id, wish, either).catch(() => {}),
      clock.sleep(patienceMs, either).catch(() => {}),
    ]);
    over.abort();
    signal.throwIfAborted();
  }
  return runningNow(store, id, wish);
}

function runningNow(store: Store, id: string, wish: Wish): ContainerRecord {
  const container = alive(store.containers.get(id), id, wish);
  const { job, jobId, pending } = workloadOf(container);
  if (job !== undefined) return container;
  const why = jobId === undefined
    ? "its job is being submitted"
    : `its job ${jobId} waits${pending === undefined ? "" : `: ${pending.reason}`}`;
  throw new CriError("UNAVAILABLE", `Cannot ${wish} the container ${id} yet: ${why}.`);
}

/** Waits until its job runs. @throws CriError FAILED_PRECONDITION when it ends before. */
export async function running(
  store: Store,
  id: string,
  wish: Wish,
  signal: AbortSignal,
): Promise<ContainerRecord> {
  const container = await store.containers.waitFor(
    id,
    (record) => !isAlive(record) || workloadOf(record).job !== undefined,
    signal,
  );
  return alive(container, id, wish);
}

function isAlive({ state }: ContainerRecord): boolean {
  return state.phase === "starting" || state.phase === "running";
}

function alive(container: ContainerRecord | undefined, id: string, wish: Wish): ContainerRecord {
  if (container !== undefined && isAlive(container)) return container;
  throw new CriError(
    "FAILED_PRECONDITION",
    `Cannot ${wish} the container ${id}: it must be running, but it is ` +
      `${container?.state.phase ?? "removed"}.`,
  );
}

/** Where a container's job runs. */
export interface RunningJob {
  jobId: string;
  /** Slurm's name of the node the job's script runs on. */
  host: string;
  /** The container's, on the cluster. */
  directory: string;
}

/** @throws CriError INTERNAL for a container whose job does not run. */
export function jobOf(container: ContainerRecord): RunningJob {
  const { job, jobId, directory } = workloadOf(container);
  if (job === undefined || jobId === undefined || directory === undefined) {
    throw new CriError(
      "INTERNAL",
      `The record of the running container ${container.id} lacks its job.`,
    );
  }
  return { jobId, host: job.host, directory };
}

/** What a command in the container needs. @throws CriError INTERNAL when the record is not whole. */
export function execRequest(
  store: Store,
  container: ContainerRecord,
  argv: readonly string[],
  timeoutMs: number,
): ExecRequest {
  const image = store.images.get(container.imageId);
  if (image === undefined) {
    throw new CriError("INTERNAL", `The image of the running container ${container.id} is gone.`);
  }
  return {
    containerId: container.id,
    ...jobOf(container),
    workingDirectory: workingDirectory(container.config, image.config),
    argv,
    timeoutMs,
  };
}
