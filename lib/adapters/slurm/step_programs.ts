import { checkCommand, encodeFields, programOf } from "../steps/frames.ts";
import node from "../steps/node.pl" with { type: "text" };
import reachPort from "../steps/reach_port.pl" with { type: "text" };
import step from "../steps/step.pl" with { type: "text" };
import terminal from "../steps/terminal.pl" with { type: "text" };
import attach from "./attach.pl" with { type: "text" };
import enterContainer from "./enter_container.pl" with { type: "text" };
import follow from "./follow.pl" with { type: "text" };

/** What `enter_container.pl` is asked to do; `step.pl` tells the form. */
export interface EnterRequest {
  /** 32 hex digits that nothing else on stdout can hold by chance. */
  nonce: string;
  jobId: string;
  /** The container's directory on the cluster. */
  directory: string;
  /** Where in the container the command begins. */
  workingDirectory: string;
  /** How long the command may run; 0: as long as it likes. */
  timeoutMs: number;
  /** How long to wait for a container that is starting. */
  waitMs: number;
  /** Of stdout and stderr together; more is dropped, and the command runs on. 0: no bound. */
  maxOutputBytes: number;
  /** What the command has as stdin: nothing, what is sent to it, or a terminal, which is its output too. */
  stdio: "none" | "pipe" | "tty";
  argv: readonly string[];
}

/** `enter_container.pl` and what it needs, as `READ_PROGRAM` reads it. */
export const ENTER_PROGRAM: Uint8Array = programOf(node, step, terminal, enterContainer);
/** The same for `reach_port.pl`. */
export const PORT_PROGRAM: Uint8Array = programOf(node, step, reachPort);
/** The same for `attach.pl`. */
export const ATTACH_PROGRAM: Uint8Array = programOf(node, step, attach);
/** The same for `follow.pl`. */
export const FOLLOW_PROGRAM: Uint8Array = programOf(node, step, follow);

/** @throws CriError INVALID_ARGUMENT when the kernel could not pass a word of the command. */
export function encodeRequest(request: EnterRequest): Uint8Array {
  const { nonce, directory, jobId, workingDirectory, timeoutMs, waitMs, argv } = request;
  checkCommand(argv);
  const { maxOutputBytes, stdio } = request;
  return encodeFields([
    nonce,
    directory,
    jobId,
    workingDirectory,
    timeoutMs,
    waitMs,
    maxOutputBytes,
    stdio,
    ...argv,
  ]);
}
