import { basename, dirname } from "@std/path";
import { CriError } from "../../base/error.ts";
import type { Logger } from "../../base/log.ts";
import type { JobTagRecord } from "../../store/records.ts";
import type { Store } from "../../store/store.ts";
import { type ClusterAccount, SLURM_COMMAND_TIMEOUT_MS } from "./account.ts";
import { cleanSandboxScript } from "./volume_scripts.ts";
import { cleanScript } from "./cluster_scripts.ts";
import { endJobScript } from "./tagged_job_scripts.ts";
import { jobName } from "./job.ts";
import { settleJob } from "./submit.ts";

/**
 * Ends what earlier attempts of the same container of the same pod left running on the cluster. Only a node
 * that lost its records in a reboot has such: its kubelet starts the pod anew, and the job of before would run
 * beside the new one. The tags of jobs survive in --root-dir for this.
 * @throws CriError UNAVAILABLE while an old job's end cannot be seen.
 */
export async function endPredecessors(
  tag: JobTagRecord,
  account: ClusterAccount,
  store: Store,
  log: Logger,
): Promise<void> {
  for (const old of store.jobTags.all()) {
    const sameContainer = old.podUid === tag.podUid && old.containerName === tag.containerName;
    if (!sameContainer || old.id === tag.id || store.containers.get(old.id) !== undefined) continue;
    if (old.account !== tag.account) {
      log.warning("A job of a forgotten attempt may still run under another account", {
        account: old.account,
        directory: old.directory,
      });
      continue;
    }
    const jobId = await settleJob(account, old.directory, jobName(old.id));
    if (jobId !== undefined) {
      const { code } = await account.session.run(endJobScript(jobId), {
        timeoutMs: SLURM_COMMAND_TIMEOUT_MS,
      });
      if (code !== 0) {
        throw new CriError(
          "UNAVAILABLE",
          `The job ${jobId} of an earlier attempt has not ended yet.`,
        );
      }
      log.info("Ended the job of an attempt from before the node's reboot", {
        container: old.id,
        job: jobId,
      });
    }
    await account.session.run(cleanScript(old.directory));
    const sandboxDirectory = dirname(old.directory);
    if (store.sandboxes.get(basename(sandboxDirectory)) === undefined) {
      await account.session.run(cleanSandboxScript(sandboxDirectory));
    }
    store.jobTags.delete(old.id);
  }
}
