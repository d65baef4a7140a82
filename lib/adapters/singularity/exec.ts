import { join } from "@std/path";
import { concat } from "@std/bytes/concat";
import { CriError } from "../../base/error.ts";
import { shown } from "../../base/shown.ts";
import type { CommandStreams } from "../../streaming/process.ts";
import type { ExecResult } from "../adapter.ts";
import { checkCommand, MAX_EXEC_OUTPUT_BYTES } from "../steps/frames.ts";
import nodeProgram from "../steps/node.pl" with { type: "text" };
import stepProgram from "../steps/step.pl" with { type: "text" };
import terminalProgram from "../steps/terminal.pl" with { type: "text" };
import { readSpec } from "./container_files.ts";
import execProgram from "./exec_in_container.pl" with { type: "text" };
import type { OciRuntime } from "./oci_runtime.ts";
import runProgram from "./run_program.pl" with { type: "text" };
import { type NodeStepEnd, runNodeStep, type StepMeans } from "./step.ts";

const PROGRAM = nodeProgram + stepProgram + terminalProgram + runProgram + execProgram;

/** One command in a container. */
export interface NodeCommand {
  containerId: string;
  /** The folder of its bundle. */
  bundle: string;
  argv: readonly string[];
  /** Of the command, and before that of its start, which a container that hangs holds; 0: as long as it likes. */
  timeoutMs: number;
}

/**
 * Runs a command without a terminal and with an empty stdin; what it writes beyond what a CRI client takes is dropped.
 * @throws CriError as `Adapter.execSync`.
 */
export async function execSync(
  means: StepMeans,
  runtime: OciRuntime,
  command: NodeCommand,
  signal: AbortSignal,
): Promise<ExecResult> {
  const stdout: Uint8Array[] = [];
  const stderr: Uint8Array[] = [];
  const end = await runCommand(means, runtime, command, "none", undefined, signal, (frame) => {
    if (frame.kind === "stdout") stdout.push(frame.bytes);
    else if (frame.kind === "stderr") stderr.push(frame.bytes);
  });
  const exitCode = await exitCodeOf(end, runtime, command);
  return { stdout: concat(stdout), stderr: concat(stderr), exitCode };
}

/** Runs a command with a client's streams; resolves with its exit code. @throws CriError as `execSync`. */
export async function execStream(
  means: StepMeans,
  runtime: OciRuntime,
  command: NodeCommand,
  tty: boolean,
  streams: CommandStreams,
  signal: AbortSignal,
): Promise<number> {
  const stdio = tty ? "tty" : "pipe";
  const end = await runCommand(means, runtime, command, stdio, streams, signal, (frame) => {
    if (frame.kind === "stdout") return streams.stdout(frame.bytes);
    if (frame.kind === "stderr") return streams.stderr(frame.bytes);
  });
  return await exitCodeOf(end, runtime, command);
}

async function runCommand(
  means: StepMeans,
  runtime: OciRuntime,
  { containerId, bundle, argv, timeoutMs }: NodeCommand,
  stdio: "none" | "pipe" | "tty",
  streams: CommandStreams | undefined,
  signal: AbortSignal,
  take: Parameters<typeof runNodeStep>[3],
): Promise<NodeStepEnd> {
  checkCommand(argv);
  const spec = await readSpec(bundle);
  const files = join(bundle, `exec-${crypto.randomUUID()}`);
  const socket = runtime.newSocketPath();
  const terminal = stdio === "tty";
  const env = terminal ? withTerm(spec.process.env) : spec.process.env;
  const process = { ...spec.process, terminal, env, args: argv };
  await Deno.writeTextFile(files, JSON.stringify(process), { mode: 0o600 });
  try {
    return await runNodeStep(
      means,
      {
        verb: `run a command in the container ${containerId}`,
        program: PROGRAM,
        fields: [
          stdio,
          timeoutMs,
          stdio === "none" ? MAX_EXEC_OUTPUT_BYTES : 0,
          files,
          spec.process.oomScoreAdj ?? 0,
          socket,
          containerId,
          ...runtime.words,
        ],
        ...(streams === undefined ? {} : { streams }),
      },
      signal,
      take,
    );
  } finally {
    // The program has removed them; but for one that could not be run, or was killed.
    for (const path of [files, `${files}.log`, `${files}.pid`, socket]) {
      await Deno.remove(path).catch(() => {});
    }
  }
}

/** The environment with a kind of terminal, as other runtimes have it: a container without a terminal has none. */
function withTerm(env: readonly string[]): readonly string[] {
  return env.some((variable) => variable.startsWith("TERM=")) ? env : [...env, "TERM=xterm"];
}

/** @throws CriError for every end without an exit code. */
async function exitCodeOf(
  end: NodeStepEnd,
  runtime: OciRuntime,
  { containerId, argv, timeoutMs }: NodeCommand,
): Promise<number> {
  switch (end.kind) {
    case "exited":
      return end.code;
    case "timedOut":
      throw new CriError(
        "DEADLINE_EXCEEDED",
        `A command in the container ${containerId} ran longer than ${timeoutMs} ms and was killed.`,
      );
    case "refused":
      throw new CriError(
        end.why === "command" ? "INVALID_ARGUMENT" : "FAILED_PRECONDITION",
        `Cannot run ${shown(argv[0] ?? "")} in the container ${containerId}: ${
          await runtime.knows(containerId)
            ? end.text
            : "somebody removed what crun knows of it; stop and remove it"
        }.`,
      );
  }
}
