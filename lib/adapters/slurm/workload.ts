import { CriError } from "../../base/error.ts";
import type { ContainerState } from "../../store/container_state.ts";
import type { ContainerRecord } from "../../store/records.ts";
import type { Store } from "../../store/store.ts";
import type { CountingResources } from "./resources.ts";

/**
 * What is known of a container's job, kept in its record. It grows in this order, and each step is durable
 * before the next effect:
 *
 * - `account` when the container is created;
 * - `directory` before anything is made on the cluster: from here on the cluster may hold something;
 * - `jobId` when sbatch accepted the job;
 * - `job` when the job said that it runs; it goes when Slurm puts the job back into the queue.
 */
export interface SlurmWorkload {
  /** Whose cluster account, for people; the login itself is in the secret store. */
  readonly account: string;
  /** The container's directory on the cluster, absolute. */
  readonly directory?: string;
  /** Where the program's results stay, absolute, when that is not in the container's directory but in its volume. */
  readonly results?: string;
  /** Which of the container's Kubernetes resources the job was asked for. */
  readonly counts?: CountingResources;
  readonly jobId?: string;
  readonly submittedAtMs?: number;
  readonly job?: { readonly host: string; readonly startedAtMs: number };
  /** When the run began that Slurm ended to run the job again; status files of that time are of no account. */
  readonly earlierRunMs?: number;
  /** Why the job waits, in Slurm's words. */
  readonly pending?: {
    readonly reason: string;
    readonly expectedStart: string;
    readonly priority: string;
  };
  /** The queue that it is or was in. */
  readonly partition?: string;
  /** What squeue said last. */
  readonly slurmState?: string;
  /** The job is to be ended: by us, not by its program. */
  readonly stop?: { readonly killed: boolean };
  /** An administrator gave it up: nothing more is done on the cluster. */
  readonly abandoned?: boolean;
}

/** The directory of a container's results; undefined as long as it has no directory. */
export function resultsOf({ directory, results }: SlurmWorkload): string | undefined {
  return results ?? (directory === undefined ? undefined : `${directory}/${RESULTS_DIRECTORY}`);
}

/** Where results are in a container's directory. */
export const RESULTS_DIRECTORY = "results";

/** @throws TypeError for a record without a workload, which no prepared container is. */
export function workloadOf(container: ContainerRecord): SlurmWorkload {
  if (container.workload === undefined) {
    throw new TypeError(`The container ${container.id} has no workload`);
  }
  return container.workload as SlurmWorkload;
}

/** Changes the workload within its record; for `Table.update`. */
export function withWorkload(
  change: (workload: SlurmWorkload) => SlurmWorkload,
): (container: ContainerRecord) => ContainerRecord {
  return (container) => ({ ...container, workload: change(workloadOf(container)) });
}

/** @throws CriError NOT_FOUND when the container was removed meanwhile. */
export function containerOf(store: Store, id: string): ContainerRecord {
  const container = store.containers.get(id);
  if (container === undefined) throw new CriError("NOT_FOUND", `The container ${id} is gone.`);
  return container;
}

/** Changes a container's state within its record; nothing for a container that was removed. */
export function changeState(
  store: Store,
  id: string,
  change: (state: ContainerState) => ContainerState,
): void {
  store.containers.update(id, (record) => ({ ...record, state: change(record.state) }));
}
