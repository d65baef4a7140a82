import { CriError } from "../../base/error.ts";
import type { Executor } from "../../executors/executor.ts";
import type { ContainerConfig } from "../../cri/api.generated.ts";
import cgroupsProgram from "./cgroups.pl" with { type: "text" };
import nodeProgram from "../steps/node.pl" with { type: "text" };
import terminalProgram from "../steps/terminal.pl" with { type: "text" };
import { lastWords, type OciRuntime } from "./oci_runtime.ts";
import type { ContainerPlace } from "./places.ts";
import runProgram from "./run_program.pl" with { type: "text" };
import superviseProgram from "./supervise.pl" with { type: "text" };

const PROGRAM = nodeProgram + terminalProgram + runProgram + cgroupsProgram + superviseProgram;

/** Longer than the supervisor itself waits (`$START_S`). */
const START_TIMEOUT_MS = 100_000;

/**
 * Starts a container under a supervisor that outlives this process (`supervise.pl` tells how), and resolves when its
 * program runs. When `signal` aborts, the supervisor gives the start up, and ends what was begun.
 * @throws CriError FAILED_PRECONDITION in crun's words when it does not; CANCELLED when `signal` aborted.
 */
export async function startSupervised(
  executor: Executor,
  runtime: OciRuntime,
  id: string,
  place: ContainerPlace,
  { stdin, stdinOnce, tty }: Pick<ContainerConfig, "stdin" | "stdinOnce" | "tty">,
  cgroupsPath: string,
  signal: AbortSignal,
): Promise<void> {
  const result = await executor.run(
    [
      "perl",
      "-e",
      PROGRAM,
      place.files,
      ...[stdin, stdinOnce, tty].map((choice) => choice ? "1" : "0"),
      place.bundle,
      runtime.newSocketPath(),
      // systemd's is no path.
      cgroupsPath.startsWith("/") ? cgroupsPath : "",
      id,
      ...runtime.words,
    ],
    { timeoutMs: START_TIMEOUT_MS, signal },
  );
  const answer = new TextDecoder().decode(result.stdout);
  if (answer.startsWith("started ")) return;
  const why = answer.startsWith("failed ") ? answer.slice("failed ".length) : lastWords(result);
  throw new CriError("FAILED_PRECONDITION", startFailure(id, why));
}

/** The sentence about a start that failed. */
export function startFailure(id: string, why: string): string {
  return `Cannot start the container ${id}: ${why}.`;
}

/** Whether the container's program can be sent something while it runs. */
export function hasInput({ stdin, tty }: Pick<ContainerConfig, "stdin" | "tty">): boolean {
  return stdin || tty;
}
