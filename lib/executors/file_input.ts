import { spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { CriError, messageOf } from "../base/error.ts";
import type { RunResult } from "./executor.ts";
import { OutputCollector } from "./output.ts";

/** What a program that reads a whole file says of it. */
const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;

/** Exit code of a program that a signal ended, which Node names and does not number. */
export const KILLED_EXIT_CODE = 128;

/**
 * Runs a program of this machine whose stdin is a file, which no byte of goes through this process: that would cost as
 * much as encrypting it. Deno.Command has only pipes, so this is Node's way.
 * @param env The whole environment of the program.
 * @throws CriError NOT_FOUND without the file or the program, FAILED_PRECONDITION when the file cannot be read,
 * RESOURCE_EXHAUSTED when the output outgrows 16 MiB, CANCELLED when `signal` aborts; the program was then killed.
 */
export async function runWithFile(
  [program, ...args]: readonly [string, ...string[]],
  path: string,
  env: Record<string, string>,
  signal: AbortSignal,
): Promise<RunResult> {
  const cancelled = () =>
    new CriError("CANCELLED", `${program} was cancelled: ${messageOf(signal.reason)}`, {
      cause: signal.reason,
    });
  if (signal.aborted) throw cancelled();
  const fd = openFile(path);
  try {
    const child = spawn(program, args, { stdio: [fd, "pipe", "pipe"], env });
    let failure: CriError | undefined;
    const fail = (error: CriError) => {
      failure ??= error;
      child.kill("SIGKILL");
    };
    const onAbort = () => fail(cancelled());
    signal.addEventListener("abort", onAbort, { once: true });
    const collect = (name: string) =>
      new OutputCollector(MAX_OUTPUT_BYTES, () =>
        fail(
          new CriError(
            "RESOURCE_EXHAUSTED",
            `Cannot keep the ${name} of ${program} as it must be at most ${MAX_OUTPUT_BYTES} bytes: the program was killed`,
          ),
        ));
    const [stdout, stderr] = [collect("stdout"), collect("stderr")];
    child.stdout?.on("data", (chunk: Uint8Array) => stdout.add(chunk));
    child.stderr?.on("data", (chunk: Uint8Array) => stderr.add(chunk));
    try {
      const code = await new Promise<number | null>((resolve, reject) => {
        child.on("error", reject);
        child.on("close", resolve);
      }).catch((error) => {
        throw new CriError("NOT_FOUND", `Cannot run ${program}: ${messageOf(error)}`, {
          cause: error,
        });
      });
      if (failure !== undefined) throw failure;
      return { code: code ?? KILLED_EXIT_CODE, stdout: stdout.bytes(), stderr: stderr.bytes() };
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  } finally {
    closeSync(fd);
  }
}

function openFile(path: string): number {
  try {
    return openSync(path, "r");
  } catch (error) {
    const code = (error as { code?: unknown }).code === "ENOENT"
      ? "NOT_FOUND"
      : "FAILED_PRECONDITION";
    throw new CriError(
      code,
      `Cannot send ${path} as it must be a file we can read: ${messageOf(error)}`,
      { cause: error },
    );
  }
}
