import { CriError } from "../../base/error.ts";
import { parseExitCode, slurmState } from "../../../wasm/core.ts";
import { type ClusterAccount, SLURM_COMMAND_TIMEOUT_MS } from "./account.ts";
import { postMortemScript, SQUEUE_SCRIPT } from "./cluster_scripts.ts";

/** What squeue says of one job. */
export interface QueueEntry {
  /** Several, separated by commas, where Slurm may choose. */
  partition: string;
  state: string;
  phase: "pending" | "running" | "ended";
  reason: string;
  expectedStart: string;
  priority: string;
  nodes: string;
}

/** What Slurm says of a job that may have ended. */
export type Verdict = { kind: "pending" } | { kind: "running" } | ({ kind: "ended" } & SlurmEnd);

/** How a job ended that did not say so itself. */
export interface SlurmEnd {
  exitCode: number;
  reason: string;
  message: string;
}

/** The exit code of a job of which neither the cluster nor its own files know anything any more. */
export const LOST_EXIT_CODE = 255;

/**
 * All jobs of the account that Slurm still knows, by id. Tells the account what the cluster's clock says.
 * @throws CriError UNAVAILABLE when Slurm does not answer: then nothing is known, which is not an end.
 */
export async function readQueue(account: ClusterAccount): Promise<Map<string, QueueEntry>> {
  const askedMs = account.clock.now();
  const result = await account.session.run(SQUEUE_SCRIPT, { timeoutMs: SLURM_COMMAND_TIMEOUT_MS });
  if (result.code !== 0) throw silent(account, result.stderr);
  const text = new TextDecoder().decode(result.stdout);
  account.clusterClock.hear(text, askedMs);
  return parseQueue(text);
}

/** Parses `SQUEUE_SCRIPT`'s lines; the reason is last because it is free text. */
export function parseQueue(text: string): Map<string, QueueEntry> {
  const entries = new Map<string, QueueEntry>();
  for (const line of text.split("\n")) {
    const [id, partition, state, expectedStart, priority, nodes, ...reason] = line.split("|");
    if (id === undefined || state === undefined || !/^\d+$/.test(id)) continue;
    entries.set(id, {
      partition: partition ?? "",
      state,
      phase: slurmState(state).phase,
      reason: reason.join("|"),
      expectedStart: expectedStart === "N/A" ? "" : expectedStart ?? "",
      priority: priority ?? "",
      nodes: nodes ?? "",
    });
  }
  return entries;
}

/**
 * Asks Slurm (controller, then accounting) how a job ended, which the controller may deny: a requeued job is pending
 * again. `lastState` is what squeue said last, for when both have forgotten it.
 * @throws CriError UNAVAILABLE when the cluster cannot be asked.
 */
export async function readPostMortem(
  account: ClusterAccount,
  directory: string,
  jobId: string,
  lastState: string | undefined,
): Promise<Verdict> {
  const result = await account.session.run(postMortemScript(directory, jobId), {
    timeoutMs: SLURM_COMMAND_TIMEOUT_MS,
  });
  if (result.code !== 0) throw silent(account, result.stderr);
  return judgeEnd(new TextDecoder().decode(result.stdout), jobId, lastState);
}

/** The judgement over `postMortemScript`'s output. */
export function judgeEnd(
  output: string,
  jobId: string,
  lastState: string | undefined,
): Verdict {
  const [controller = "", accounting = "", ...noise] = output.split(/^--$/m);
  const [accountedState, accountedCode] = accounting.trim().split("\n")[0]?.split("|") ?? [];
  const controllerState = /\bJobState=(\S+)/.exec(controller)?.[1];
  if (controllerState !== undefined) {
    const { phase } = slurmState(controllerState);
    if (phase !== "ended") return { kind: phase };
  }
  const known = [controllerState, accountedState, lastState].map((state) => slurmState(state ?? ""))
    .find(({ end }) => end !== undefined);
  const words = noise.join("--").split("\n").filter((line) => line.includes("error:")).at(-1);
  const tail = words === undefined ? "" : `: ${words.trim()}`;
  if (known?.end === undefined) {
    return {
      kind: "ended",
      exitCode: LOST_EXIT_CODE,
      reason: "JobLost",
      message: `Slurm no longer knows the job ${jobId}, and it left no exit code${tail}`,
    };
  }
  const code = /\bExitCode=(\d+:\d+)/.exec(controller)?.[1] ?? accountedCode;
  const program = code === undefined ? 0 : parseExitCode(code).exitCode;
  // A failure must never look like a success, whatever code Slurm keeps for it.
  const own = program === 0 && !known.end.succeeded ? LOST_EXIT_CODE : program;
  return {
    kind: "ended",
    exitCode: known.end.exitCode ?? own,
    reason: known.end.reason,
    message: `Slurm ended the job ${jobId} with state ${known.name}${tail}`,
  };
}

function silent(account: ClusterAccount, stderr: Uint8Array): CriError {
  const words = new TextDecoder().decode(stderr).trim().replaceAll(/\s*\n\s*/g, "; ");
  return new CriError("UNAVAILABLE", `Slurm on ${account.name} does not answer: ${words}`);
}
