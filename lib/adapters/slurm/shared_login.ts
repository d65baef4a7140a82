/**
 * What a pod may not ask for with a login that the node keeps. Its user on the cluster is shared with other pods, so
 * that nothing of a pod may run or write outside of containers, unless the administrator says `prerun: true`.
 */
import { CriError } from "../../base/error.ts";
import type { ClusterChoice, Clusters } from "../../config/clusters.ts";
import type { ImageRecord } from "../../store/records.ts";
import type { JobOptions } from "./job_options.ts";
import type { MpiSettings } from "./mpi.ts";
import type { Staging } from "./staging.ts";

/**
 * Options of sbatch(1) that say only what a job gets, where, when and at whose expense. Others name programs and files
 * (`--prolog` of plugins, `--bb`), let programs run elsewhere (`--mail-user`), or are options of plugins, of which
 * nobody here knows what they do.
 */
const HARMLESS_OPTIONS: ReadonlySet<string> = new Set([
  ...["account", "qos", "wckey", "reservation", "partition", "licenses", "priority", "nice"],
  ...["time", "time-min", "begin", "deadline", "delay-boot", "dependency", "kill-on-invalid-dep"],
  ...["hold", "requeue", "no-requeue", "no-kill", "signal"],
  ...["nodes", "nodelist", "exclude", "constraint", "cluster-constraint", "prefer", "contiguous"],
  ...["switches", "segment", "spread-job", "use-min-nodes", "wait-all-nodes", "exclusive"],
  ...["oversubscribe", "overcommit", "distribution", "hint", "mincpus", "cpus-per-task"],
  ...["extra-node-info", "sockets-per-node", "cores-per-socket", "threads-per-core"],
  ...["ntasks", "ntasks-per-core", "ntasks-per-gpu", "ntasks-per-node", "ntasks-per-socket"],
  ...["tasks-per-node", "mem", "mem-per-cpu", "mem-per-gpu", "tmp", "gres", "gres-flags"],
  ...["gpus", "gpus-per-node", "gpus-per-socket", "gpus-per-task", "cpus-per-gpu", "gpu-bind"],
  ...["tres-per-task", "oom-kill-step"],
]);

/** Options of sbatch(1) whose value, when it holds a slash, is a file of the login host that is read. */
const LISTS_OR_FILES: ReadonlySet<string> = new Set(["nodelist", "exclude"]);

/** Whether a container may run commands outside of containers: as a user of its own, or where it is allowed. */
function mayRunCommands(choice: ClusterChoice, clusters: Clusters): boolean {
  return choice.kind === "own" || clusters.named.get(choice.name)?.prerun === true;
}

/** What of a container's settings can lead out of it. */
interface RequestedSettings extends Pick<JobOptions, "options" | "submitEnvironment"> {
  cluster: ClusterChoice;
  prerun: string;
  mpi?: MpiSettings;
}

/**
 * Refuses settings that could run or write something outside of containers as a user whose files other pods share.
 * @throws CriError PERMISSION_DENIED for the first of them.
 */
export function checkSettings(
  { cluster, prerun, mpi, options, submitEnvironment }: RequestedSettings,
  clusters: Clusters,
): void {
  if (cluster.kind === "own" || mayRunCommands(cluster, clusters)) return;
  if (prerun !== "") throw denied("run CLUSTER_CONFIG", cluster.name);
  // Ranks have the node's processes and /tmp: with a setuid runtime they reach all files of the user through /proc.
  if (mpi !== undefined) throw denied("run MPI (MPI_VERSION)", cluster.name);
  const [variable] = submitEnvironment;
  // srun takes programs that it runs from them, as SLURM_TASK_PROLOG.
  if (variable !== undefined) throw denied(`set ${variable.name} for the job`, cluster.name);
  const option = options.find(({ name }) => !HARMLESS_OPTIONS.has(name));
  if (option !== undefined) throw denied(`use --${option.name} of sbatch`, cluster.name);
  const file = options.find(({ name, value }) => LISTS_OR_FILES.has(name) && value?.includes("/"));
  if (file !== undefined) throw denied(`name a file by --${file.name} of sbatch`, cluster.name);
}

/**
 * Refuses to build from a definition file: its %pre and %setup run on the login host, and its %files copies any file
 * of the user.
 * @throws CriError PERMISSION_DENIED where that is not allowed.
 */
export function checkImage(
  { volumeFile }: Pick<ImageRecord, "volumeFile">,
  cluster: ClusterChoice,
  clusters: Clusters,
): void {
  if (cluster.kind === "own" || volumeFile?.kind !== "local-def-file") return;
  if (mayRunCommands(cluster, clusters)) return;
  throw denied("build an image from a definition file (local-def-file.)", cluster.name);
}

/**
 * Refuses mounts of a directory, or in one, that programs of the pod can replace by a link: one that does so while the
 * container runtime starts gets any directory of the user.
 * @throws CriError PERMISSION_DENIED where that is not allowed.
 */
export function checkParts(
  { replaceable: [destination] }: Pick<Staging, "replaceable">,
  cluster: ClusterChoice,
  clusters: Clusters,
): void {
  if (cluster.kind === "own" || destination === undefined) return;
  if (mayRunCommands(cluster, clusters)) return;
  const what = `mount ${
    JSON.stringify(destination)
  }, which is a part (subPath) of a volume that the pod writes, or lies in one,`;
  throw denied(what, cluster.name);
}

function denied(what: string, cluster: string): CriError {
  return new CriError(
    "PERMISSION_DENIED",
    `Cannot ${what} with the node's login for the cluster ${cluster}: the administrator must allow it by ` +
      "`prerun: true` in --clusters-file.",
  );
}
