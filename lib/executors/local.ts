import { CriError, messageOf } from "../base/error.ts";
import type { Executor, RunOptions, RunResult } from "./executor.ts";
import { OutputCollector } from "./output.ts";

/**
 * The only variables of the server's own environment that a child gets: what programs need to find
 * other programs, temporary space and the way through a proxy. The rest may hold a cluster's
 * credentials, and a child's environment can be read by its own children.
 */
export const INHERITED_VARIABLES = [
  "PATH",
  "HOME",
  "LANG",
  "LC_ALL",
  "TMPDIR",
  "TZ",
  "HTTP_PROXY",
  "HTTPS_PROXY",
  "NO_PROXY",
  "http_proxy",
  "https_proxy",
  "no_proxy",
  "SSL_CERT_FILE",
  "SSL_CERT_DIR",
] as const;

/** Enough for any listing or inspection; bulk data goes through files. */
const DEFAULT_MAX_OUTPUT_BYTES = 16 * 1024 * 1024;

export interface LocalExecutorOptions {
  /** What every child's environment starts from; by default the server's INHERITED_VARIABLES. */
  baseEnv?: Record<string, string>;
}

/** Runs programs of this machine, as the user of this process. */
export function createLocalExecutor(options: LocalExecutorOptions = {}): Executor {
  const baseEnv = options.baseEnv ?? inheritedEnvironment();
  return { run: (argv, runOptions = {}) => runLocally(argv, runOptions, baseEnv) };
}

/** The INHERITED_VARIABLES that are set. */
export function inheritedEnvironment(): Record<string, string> {
  const env: Record<string, string> = {};
  for (const name of INHERITED_VARIABLES) {
    const value = Deno.env.get(name);
    if (value !== undefined) env[name] = value;
  }
  return env;
}

async function runLocally(
  argv: readonly [string, ...string[]],
  options: RunOptions,
  baseEnv: Record<string, string>,
): Promise<RunResult> {
  const [program, ...args] = argv;
  if (options.signal?.aborted) throw cancelled(program, options.signal);
  const child = spawn(program, args, options, baseEnv);

  // The first reason to end the child early; the child is killed when it is set.
  let failure: CriError | undefined;
  const fail = (error: CriError) => {
    if (failure !== undefined) return;
    failure = error;
    killQuietly(child);
  };
  const onAbort = () => {
    if (options.signal) fail(cancelled(program, options.signal));
  };
  options.signal?.addEventListener("abort", onAbort, { once: true });
  const { timeoutMs } = options;
  const timer = timeoutMs === undefined ? undefined : setTimeout(() => {
    fail(
      new CriError(
        "DEADLINE_EXCEEDED",
        `Cannot wait longer for ${program} as it must end within ${timeoutMs} ms: it was killed`,
      ),
    );
  }, timeoutMs);

  const maxBytes = options.maxOutputBytes ?? DEFAULT_MAX_OUTPUT_BYTES;
  const overflow = (stream: string) =>
    fail(
      new CriError(
        "RESOURCE_EXHAUSTED",
        `Cannot keep the ${stream} of ${program} as it must be at most ${maxBytes} bytes: the program was killed`,
      ),
    );
  const stdout = new OutputCollector(maxBytes, () => overflow("stdout"));
  const stderr = new OutputCollector(maxBytes, () => overflow("stderr"));
  const stdoutReader = child.stdout.getReader();
  const stderrReader = child.stderr.getReader();
  const stdinWriter = options.stdin === undefined ? undefined : child.stdin.getWriter();

  const ended = child.status.then(async (status) => {
    if (failure !== undefined) {
      // Children of the killed program may hold its pipes open; nobody waits for what they write.
      await Promise.allSettled([
        stdoutReader.cancel(),
        stderrReader.cancel(),
        stdinWriter?.abort(),
      ]);
    }
    return status;
  });
  const failOnError = (work: Promise<void>) =>
    work.catch((error) => {
      if (failure === undefined) fail(CriError.from(error));
    });
  try {
    const [status] = await Promise.all([
      ended,
      failOnError(readAll(stdoutReader, (chunk) => stdout.add(chunk))),
      failOnError(readAll(stderrReader, (chunk) => {
        stderr.add(chunk);
        options.onStderr?.(chunk);
      })),
      failOnError(writeAll(stdinWriter, options.stdin)),
    ]);
    if (failure !== undefined) throw failure;
    // Deno gives 128 + the signal's number as the code of a child ended by a signal.
    return { code: status.code, stdout: stdout.bytes(), stderr: stderr.bytes() };
  } finally {
    clearTimeout(timer);
    options.signal?.removeEventListener("abort", onAbort);
  }
}

function spawn(
  program: string,
  args: readonly string[],
  options: RunOptions,
  baseEnv: Record<string, string>,
): Deno.ChildProcess {
  try {
    return new Deno.Command(program, {
      args: [...args],
      clearEnv: true,
      env: { ...baseEnv, ...options.env },
      stdin: options.stdin === undefined ? "null" : "piped",
      stdout: "piped",
      stderr: "piped",
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    }).spawn();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      const where = options.cwd === undefined ? "" : ` in the directory ${options.cwd}`;
      throw new CriError(
        "NOT_FOUND",
        `Cannot run ${program}${where} as the program and its directory must exist: ${
          messageOf(error)
        }`,
        { cause: error },
      );
    }
    if (error instanceof Deno.errors.NotCapable || error instanceof Deno.errors.PermissionDenied) {
      throw new CriError("PERMISSION_DENIED", `Cannot run ${program}: ${messageOf(error)}`, {
        cause: error,
      });
    }
    throw new CriError("INTERNAL", `Cannot run ${program}: ${messageOf(error)}`, { cause: error });
  }
}

async function readAll(
  reader: ReadableStreamDefaultReader<Uint8Array>,
  onChunk: (chunk: Uint8Array) => void,
): Promise<void> {
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    onChunk(value);
  }
}

async function writeAll(
  writer: WritableStreamDefaultWriter<Uint8Array> | undefined,
  bytes: Uint8Array | undefined,
): Promise<void> {
  if (writer === undefined || bytes === undefined) return;
  try {
    await writer.write(bytes);
    await writer.close();
  } catch (error) {
    // A program may end without reading its input, as `true` does; its exit code tells the outcome.
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
}

function killQuietly(child: Deno.ChildProcess): void {
  try {
    child.kill("SIGKILL");
  } catch (error) {
    // "Child process has already terminated": then there is nothing to end.
    if (!(error instanceof TypeError) && !(error instanceof Deno.errors.NotFound)) throw error;
  }
}

function cancelled(program: string, signal: AbortSignal): CriError {
  return new CriError("CANCELLED", `${program} was cancelled: ${messageOf(signal.reason)}`, {
    cause: signal.reason,
  });
}
