import { dirname, join } from "@std/path";
import type { PodSandboxConfig } from "../../cri/api.generated.ts";
import carrier from "./carrier.sh" with { type: "text" };
import { ALLOCATION_ANNOTATION, unusable } from "./job_options.ts";
import type { SbatchOption } from "./resources.ts";

/** The one value of the annotation: a pod's containers share one job. */
const WHOLE_POD = "pod";

/** A job that the containers of a pod share; see `carrier.sh`. */
export interface Allocation {
  /** Absolute on the cluster: of the sandbox, in which the containers' directories lie. */
  sandboxDirectory: string;
  jobName: string;
  /** For sbatch, if there is no such job yet. */
  options: readonly string[];
  /** The batch script. */
  carrier: string;
}

/**
 * Whether a pod's containers share one job.
 * @throws CriError INVALID_ARGUMENT for another value of the annotation, or for more than one node.
 */
export function sharesAllocation(
  { annotations }: Pick<PodSandboxConfig, "annotations">,
  options: readonly SbatchOption[],
): boolean {
  if (!Object.hasOwn(annotations, ALLOCATION_ANNOTATION)) return false;
  const value = annotations[ALLOCATION_ANNOTATION] ?? "";
  if (value !== WHOLE_POD) {
    throw unusable(`the annotation ${ALLOCATION_ANNOTATION}`, `"${WHOLE_POD}"`, value);
  }
  const nodes = options.findLast(({ name }) => name === "nodes")?.value ?? "1";
  if (!/^1(-1)?$/.test(nodes)) {
    throw unusable(`--nodes of a pod with ${ALLOCATION_ANNOTATION}`, "1", nodes);
  }
  return true;
}

/** The name by which the job of a pod is found in Slurm, as long as it lives. */
export function allocationName(sandboxId: string): string {
  return `multicri-pod-${sandboxId}`;
}

/** The name of a container's step in that job, as `carrier.sh` gives it. */
export function stepName(containerId: string): string {
  return `multicri-${containerId}`;
}

/**
 * The job of a pod, as the first of its containers asks for it.
 * @param directory The container's.
 */
export function allocationOf(
  { sandboxId, sandbox, directory, options }: {
    sandboxId: string;
    sandbox: PodSandboxConfig;
    directory: string;
    options: readonly SbatchOption[];
  },
): Allocation {
  const sandboxDirectory = dirname(directory);
  const { namespace, name, uid, attempt } = sandbox.metadata ?? {};
  const comment = `multicri id=${sandboxId} pod=${namespace}/${name} uid=${uid} ` +
    `container=* attempt=${attempt}`;
  const all: SbatchOption[] = [
    ...options,
    { name: "job-name", value: allocationName(sandboxId) },
    { name: "comment", value: comment },
    // "%" begins a replacement in sbatch's file names.
    { name: "output", value: join(sandboxDirectory, "allocation/slurm.log").replaceAll("%", "%%") },
    { name: "open-mode", value: "append" },
    { name: "nodes", value: "1" },
    // Which of its containers had ended nobody could tell.
    { name: "no-requeue" },
  ];
  return {
    sandboxDirectory,
    jobName: allocationName(sandboxId),
    options: all.map(({ name, value }) => value === undefined ? `--${name}` : `--${name}=${value}`),
    carrier,
  };
}
