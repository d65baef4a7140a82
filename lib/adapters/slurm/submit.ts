import { CriError } from "../../base/error.ts";
import { archiveOf } from "./archive.ts";
import { findJobScript, settleScript, SUBMIT_EXIT, submitScript } from "./cluster_scripts.ts";
import { type ClusterAccount, SLURM_COMMAND_TIMEOUT_MS } from "./account.ts";
import type { JobFiles } from "./job.ts";
import type { Variable } from "./settings.ts";

/** What sbatch says when the controller, not the request, is at fault: the request may be tried again. */
const CONTROLLER_AWAY =
  /Unable to contact slurm controller|Socket timed out|Connection (refused|reset|timed out)|Zero Bytes were transmitted|temporarily unable|Resource temporarily unavailable|not responding|Communication connection failure|Transport endpoint is not connected/i;

/** From here on an exit code says that a signal ended the script: at any point, also after sbatch. */
const FIRST_SIGNAL_CODE = 128;

/** What came of a submission; an answer, not a guess: no job exists unless it is submitted. */
export type Submission =
  | { kind: "submitted"; jobId: string }
  | { kind: "refused"; error: CriError };

/**
 * Submits the job, or finds the one that an earlier call submitted.
 * @throws CriError UNAVAILABLE when nothing was handed over; anything else when it may or may not have been
 * accepted (call again: nothing is doubled).
 */
export async function submitJob(
  account: ClusterAccount,
  job: JobFiles,
  environment: readonly Variable[],
): Promise<Submission> {
  const result = await account.session.run(
    submitScript({
      directory: job.directory,
      jobName: job.name,
      optionNames: job.optionNames,
      environment,
      made: job.made,
    }),
    { stdin: await archiveOf(job.entries), timeoutMs: SLURM_COMMAND_TIMEOUT_MS },
  );
  const words = new TextDecoder().decode(result.stderr).replaceAll("sbatch: error: ", "").trim()
    .replaceAll(/\s*\n\s*/g, "; ");
  if (result.code === 0) {
    return { kind: "submitted", jobId: jobIdOf(new TextDecoder().decode(result.stdout), account) };
  }
  if (result.code === SUBMIT_EXIT.TRY_AGAIN || CONTROLLER_AWAY.test(words)) {
    throw new CriError(
      "UNKNOWN",
      `Slurm on ${account.name} does not answer: ${words || "another submission is under way"}`,
    );
  }
  if (result.code >= FIRST_SIGNAL_CODE) {
    throw new CriError(
      "UNKNOWN",
      `The submission on ${account.name} was killed (exit code ${result.code})`,
    );
  }
  return { kind: "refused", error: refusal(result.code, words, job.directory, account) };
}

function refusal(
  code: number,
  words: string,
  directory: string,
  account: ClusterAccount,
): CriError {
  switch (code) {
    case SUBMIT_EXIT.REFUSED:
      return new CriError("INVALID_ARGUMENT", `Slurm on ${account.name} refused the job: ${words}`);
    case SUBMIT_EXIT.STOPPED:
      return new CriError(
        "FAILED_PRECONDITION",
        "The container was stopped before its job was submitted.",
      );
    default:
      return new CriError(
        "FAILED_PRECONDITION",
        `Cannot write the job's files to ${directory} on ${account.name}: ${
          words || `exit code ${code}`
        }`,
      );
  }
}

/**
 * The id of the job that an interrupted submission left, undefined when it left none.
 * @throws CriError UNAVAILABLE when that cannot be told now.
 */
export function findJob(
  account: ClusterAccount,
  directory: string,
  name: string,
): Promise<string | undefined> {
  return askForJob(account, findJobScript(directory, name));
}

/**
 * The same, and sees to it that no job of the container runs its program later when there is none now.
 * @throws CriError UNAVAILABLE when that cannot be told now.
 */
export function settleJob(
  account: ClusterAccount,
  directory: string,
  name: string,
): Promise<string | undefined> {
  return askForJob(account, settleScript(directory, name));
}

async function askForJob(account: ClusterAccount, script: string): Promise<string | undefined> {
  const result = await account.session.run(script, { timeoutMs: SLURM_COMMAND_TIMEOUT_MS });
  if (result.code !== 0) {
    const words = new TextDecoder().decode(result.stderr).trim() || `exit code ${result.code}`;
    throw new CriError("UNAVAILABLE", `Slurm on ${account.name} does not answer: ${words}`);
  }
  const text = new TextDecoder().decode(result.stdout);
  return text.trim() === "" ? undefined : jobIdOf(text, account);
}

function jobIdOf(text: string, account: ClusterAccount): string {
  const id = text.trim();
  if (/^\d+$/.test(id)) return id;
  throw new CriError(
    "INTERNAL",
    `sbatch on ${account.name} answered ${JSON.stringify(id)} where a job id was expected.`,
  );
}
