import { CriError } from "../../base/error.ts";
import type { ContainerRecord } from "../../store/records.ts";
import type { ResourceChange } from "../adapter.ts";
import { NO_ANSWER, SLURM_COMMAND_TIMEOUT_MS } from "./account.ts";
import type { ActiveContainers } from "./active.ts";
import { updateScript } from "./cluster_scripts.ts";
import { TIME_LIMIT, TIME_LIMIT_ANNOTATION } from "./job_options.ts";
import { checkResources, coresOf, mebibytesOf } from "./resources.ts";
import { workloadOf } from "./workload.ts";

/**
 * Gives a container's job other resources: cores and memory while it waits, and another time limit, at any time as
 * far as Slurm lets a user go. Only what changes for Slurm is asked of it: not what is rounded to the same, the
 * processors' numbers on the Kubernetes node, or what the job's own settings decide.
 * @throws CriError FAILED_PRECONDITION with Slurm's words when it does not allow it; UNAVAILABLE when it cannot be
 * asked now; INVALID_ARGUMENT for no time limit, and for resources that none can have.
 */
export async function updateJob(
  containers: ActiveContainers,
  container: ContainerRecord,
  { before, after, annotations }: ResourceChange,
): Promise<void> {
  const { id } = container;
  checkResources(after, `the container ${id}`);
  const { jobId, job, counts, directory } = workloadOf(container);
  const settings: string[] = [];
  const cores = coresOf(after);
  if (counts?.cores && cores > 0n && cores !== coresOf(before)) {
    // What sbatch makes of --cpus-per-task at once; scontrol changes neither of them with another.
    settings.push(`CPUsPerTask=${cores}`, `NumCPUs=${cores}`, `MinCPUsNode=${cores}`);
  }
  const mebibytes = mebibytesOf(after);
  if (counts?.memory && mebibytes > 0n && mebibytes !== mebibytesOf(before)) {
    settings.push(`MinMemoryNode=${mebibytes}`);
  }
  if (settings.length > 0 && job !== undefined) {
    throw new CriError(
      "FAILED_PRECONDITION",
      `Cannot give the container ${id} other cores or memory: its job ${jobId} runs on ${job.host}, and ` +
        "Slurm changes them of waiting jobs only. Delete the pod and make another one.",
    );
  }
  const limit = annotations[TIME_LIMIT_ANNOTATION];
  if (limit !== undefined) settings.push(`TimeLimit=${timeLimit(id, limit, directory)}`);
  if (settings.length === 0) return;
  if (jobId === undefined) {
    throw new CriError(
      "UNAVAILABLE",
      `Cannot change the job of the container ${id}: it is being submitted; call again.`,
    );
  }
  const active = await containers.of(id);
  const { account } = active;
  await account.reach();
  const { code, stdout } = await account.session.run(updateScript(jobId, settings), {
    timeoutMs: SLURM_COMMAND_TIMEOUT_MS,
  });
  const words = new TextDecoder().decode(stdout).trim().replaceAll(/\s*\n\s*/g, "; ");
  if (code !== 0) {
    throw new CriError(
      NO_ANSWER.test(words) ? "UNAVAILABLE" : "FAILED_PRECONDITION",
      `Cannot change the job ${jobId} on ${account.name} (${settings.join(", ")}): ${words}`,
    );
  }
  await containers.note(active, `job ${jobId} changed: ${settings.join(", ")}`);
}

function timeLimit(id: string, limit: string, directory: string | undefined): string {
  if (!TIME_LIMIT.test(limit)) {
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot use the time limit ${
        JSON.stringify(limit)
      } of the annotation ${TIME_LIMIT_ANNOTATION}: it must ` +
        "be one of sbatch's --time, as 90, 1:30:00 or 2-12.",
    );
  }
  if (directory === undefined) {
    throw new CriError(
      "FAILED_PRECONDITION",
      `Cannot change the time limit of the container ${id} before it is started: there is no job yet; set it ` +
        "by JOB_CUSTOM_CONFIG.",
    );
  }
  return limit;
}
