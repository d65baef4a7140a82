/** Jobs and directories of ours on a cluster, found there and not in any record. */
import { dirname } from "@std/path";
import { CriError } from "../../base/error.ts";
import type { SlurmSettings } from "../../config/slurm_settings.ts";
import type { ClusterSession } from "../../executors/ssh/session.ts";
import { SLURM_COMMAND_TIMEOUT_MS } from "./account.ts";
import { cleanSandboxScript } from "./volume_scripts.ts";
import { cleanScript } from "./cluster_scripts.ts";
import { endJobScript, taggedJobsScript } from "./tagged_job_scripts.ts";

/** The state of what has files on the cluster and is not in Slurm's queue. */
export const ENDED = "ENDED";

/** One job of ours, or what is left of it. */
export interface TaggedJob {
  /** Empty when its submission was never finished. */
  jobId: string;
  /** Slurm's, or ENDED. */
  state: string;
  /** Absolute, on the cluster. */
  directory: string;
  /** The sandbox's, of a job that the containers of a pod share. */
  containerId: string;
  /** `namespace/name`. */
  pod: string;
  podUid: string;
  /** WHOLE_POD for a job that the containers of a pod share. */
  containerName: string;
}

/** Stands for a container's name in the tag of a pod's job. */
const WHOLE_POD = "*";

/**
 * Everything of ours on the account, whichever node it came from.
 * @throws CriError UNAVAILABLE when Slurm does not answer.
 */
export async function readTaggedJobs(
  session: ClusterSession,
  { mountPath }: Pick<SlurmSettings, "mountPath">,
): Promise<TaggedJob[]> {
  const { code, stdout, stderr } = await session.run(taggedJobsScript(mountPath), {
    timeoutMs: SLURM_COMMAND_TIMEOUT_MS,
  });
  if (code !== 0) {
    const words = new TextDecoder().decode(stderr).trim().replaceAll(/\s*\n\s*/g, "; ");
    throw new CriError("UNAVAILABLE", `Slurm on ${session.name} does not answer: ${words}`);
  }
  return parseTaggedJobs(new TextDecoder().decode(stdout));
}

/** Parses what `taggedJobsScript` prints: lines of the queue, `--`, lines of directories. */
export function parseTaggedJobs(text: string): TaggedJob[] {
  const [queue = "", directories = ""] = text.split(/^--$/m);
  const found = new Map<string, TaggedJob>();
  const add = (jobId: string, state: string, directory: string, comment: string) => {
    const tag = /multicri id=(\w+) pod=(\S*) uid=(\S*) container=(\S*) attempt=/.exec(comment);
    const [, containerId, pod = "", podUid = "", containerName = ""] = tag ?? [];
    // A directory of another name is not one that we made for it.
    if (containerId === undefined || directory.split("/").at(-1) !== containerId) return;
    if (found.has(containerId)) return;
    found.set(containerId, { jobId, state, directory, containerId, pod, podUid, containerName });
  };
  for (const line of queue.split("\n")) {
    const [jobId = "", state = "", directory = "", ...comment] = line.split("|");
    if (/^\d+$/.test(jobId)) add(jobId, state, directory, comment.join("|"));
  }
  // A container without a job of its own has the pod's.
  const living = new Map([...found.values()].map(({ jobId, state }) => [jobId, state]));
  for (const line of directories.split("\n")) {
    const [jobId = "", directory = "", ...comment] = line.split("|");
    if (!/^\d*$/.test(jobId)) continue;
    add(jobId, living.get(jobId) ?? ENDED, directory, comment.join("|"));
  }
  return [...found.values()];
}

/**
 * Ends a job and removes its files but the program's results; those of all its containers, if it is a pod's.
 * @param all Everything on the account, in which those are looked for.
 * @throws CriError UNAVAILABLE while its end cannot be seen.
 */
export async function endTaggedJob(
  session: ClusterSession,
  job: TaggedJob,
  all: readonly TaggedJob[],
): Promise<void> {
  const options = { timeoutMs: SLURM_COMMAND_TIMEOUT_MS };
  if (job.state !== ENDED) {
    const { code } = await session.run(endJobScript(job.jobId), options);
    if (code !== 0) {
      throw new CriError(
        "UNAVAILABLE",
        `The job ${job.jobId} on ${session.name} has not ended yet; try again.`,
      );
    }
  }
  const isPods = job.containerName === WHOLE_POD;
  const directories = isPods
    ? all.map(({ directory }) => directory).filter((one) => dirname(one) === job.directory)
    : [job.directory];
  const script = [
    ...directories.map((directory) => cleanScript(directory)),
    cleanSandboxScript(isPods ? job.directory : dirname(job.directory)),
  ].map((part) => `(${part})`).join(" && ");
  const { code, stderr } = await session.run(script, options);
  if (code === 0) return;
  const words = new TextDecoder().decode(stderr).trim();
  throw new CriError(
    "UNAVAILABLE",
    `Cannot remove ${job.directory} on ${session.name}: ${words}`,
  );
}
