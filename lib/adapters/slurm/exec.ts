import { concat } from "@std/bytes/concat";
import { CriError } from "../../base/error.ts";
import type { Clock } from "../../base/clock.ts";
import type { ExecResult } from "../adapter.ts";
import type { ClusterAccount } from "./account.ts";
import { MAX_EXECS_AT_ONCE } from "./exec_turns.ts";
import { type Frame, MAX_EXEC_OUTPUT_BYTES } from "../steps/frames.ts";
import { encodeRequest, ENTER_PROGRAM, type EnterRequest } from "./step_programs.ts";
import {
  CONTAINER_WAIT_MS,
  newNonce,
  runStep,
  START_LIMIT_MS,
  type StepEnd,
  type StepRequest,
} from "./step.ts";

/** One command for a container whose job runs. */
export interface ExecRequest {
  containerId: string;
  jobId: string;
  /** Slurm's name of the node the job's script runs on. */
  host: string;
  directory: string;
  workingDirectory: string;
  argv: readonly string[];
  /** From the command's first moment; 0: as long as it likes. */
  timeoutMs: number;
}

/** The container's program is not there yet: trying again helps. */
export class ContainerStarting extends Error {
  override readonly name = "ContainerStarting";
}

/**
 * Runs a command in a container by a step of its job (`enter_container.pl` tells how), and resolves when it
 * ended; srun takes some milliseconds more to end, and nobody waits for that but the next one's turn. When `signal`
 * aborts it is killed first; it also is when this process or the connection ends, because the other side sees its
 * stdin end.
 *
 * @throws ContainerStarting; CriError DEADLINE_EXCEEDED when the command ran longer than it may, and was
 * killed; INVALID_ARGUMENT when the image has no such command; FAILED_PRECONDITION when the node or the
 * container does not allow it; UNAVAILABLE when nobody can tell now. The signal's reason when it aborts.
 */
export async function execInJob(
  request: ExecRequest,
  account: ClusterAccount,
  clock: Clock,
  signal: AbortSignal,
): Promise<ExecResult> {
  const over = new AbortController();
  const either = AbortSignal.any([signal, over.signal]);
  const limited = request.timeoutMs > 0;
  const waited = new AbortController();
  if (limited) {
    clock.sleep(START_LIMIT_MS, AbortSignal.any([signal, waited.signal])).then(
      () => over.abort(tooBusy(request, account)),
      () => {},
    );
  }
  const answer = Promise.withResolvers<ExecResult>();
  account.execTurns.run(limited, () => {
    waited.abort();
    return execNow(request, account, clock, signal, answer.resolve);
  }, either).catch(answer.reject).finally(() => waited.abort());
  return await answer.promise;
}

/** Resolves when the step has ended, which is later than the answer. */
async function execNow(
  request: ExecRequest,
  account: ClusterAccount,
  clock: Clock,
  signal: AbortSignal,
  answer: (result: ExecResult) => void,
): Promise<void> {
  const stdout: Uint8Array[] = [];
  const stderr: Uint8Array[] = [];
  const step = enterStep(request, account.name, "none");
  const take = (frame: Frame) => {
    if (frame.kind === "stdout") stdout.push(frame.bytes);
    else if (frame.kind === "stderr") stderr.push(frame.bytes);
    else if (frame.kind === "exited") {
      answer({ stdout: concat(stdout), stderr: concat(stderr), exitCode: frame.code });
    }
  };
  const end = await account.lines.run(
    "command",
    (session) => runStep(step, session, clock, signal, take),
    signal,
  );
  exitCodeOf(end, request);
}

/** The step that runs a command; only a command without streams has its output bounded. */
export function enterStep(
  request: ExecRequest,
  account: string,
  stdio: EnterRequest["stdio"],
): StepRequest {
  const { containerId, jobId, host, timeoutMs } = request;
  const nonce = newNonce();
  return {
    jobId,
    host,
    account,
    purpose: {
      verb: `run a command in the container ${containerId}`,
      noun: `a command in the container ${containerId}`,
    },
    program: ENTER_PROGRAM,
    nonce,
    request: encodeRequest({
      ...request,
      nonce,
      waitMs: CONTAINER_WAIT_MS,
      maxOutputBytes: stdio === "none" ? MAX_EXEC_OUTPUT_BYTES : 0,
      stdio,
    }),
    timeoutMs,
  };
}

/** @throws CriError and ContainerStarting as `execInJob` for every end without an exit code. */
export function exitCodeOf(end: StepEnd, request: ExecRequest): number {
  const { containerId, argv, host, timeoutMs } = request;
  if (end.kind === "exited") return end.code;
  if (end.kind === "timedOut") {
    throw new CriError(
      "DEADLINE_EXCEEDED",
      `A command in the container ${containerId} ran longer than ${timeoutMs} ms and was killed.`,
    );
  }
  const where = `Cannot run a command in the container ${containerId} on ${host}: ${end.text}.`;
  switch (end.why) {
    case "starting":
      throw new ContainerStarting(where);
    case "command":
      throw new CriError(
        "INVALID_ARGUMENT",
        `Cannot run ${JSON.stringify(argv[0])} in the container ${containerId}: ${end.text}.`,
      );
    case "setuid":
    case "node":
    case "ended":
      throw new CriError("FAILED_PRECONDITION", where);
  }
}

function tooBusy({ containerId }: ExecRequest, { name }: ClusterAccount): CriError {
  return new CriError(
    "UNAVAILABLE",
    `Cannot run a command in the container ${containerId} on ${name}: ${MAX_EXECS_AT_ONCE} others ran all ` +
      `the time for ${START_LIMIT_MS} ms.`,
  );
}
