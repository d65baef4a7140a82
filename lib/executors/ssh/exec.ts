import { CriError, messageOf } from "../../base/error.ts";
import type { RunResult } from "../executor.ts";
import { OutputCollector } from "../output.ts";
import type { CommandChannel } from "./command_channel.ts";
import type { Connection } from "./connection.ts";
import { killProcessGroup, within } from "./exec_end.ts";
import { COMMAND_LINE, MarkerFilter, MAX_BANNER_BYTES, wrapScript } from "./shell.ts";
import { signalExitCode } from "./signals.ts";

/** How long a command that is to be killed may take to tell its process id. */
const MARKER_WAIT_MS = 1_000;

/** One script to run. */
export interface ExecRequest {
  script: string;
  stdin: Uint8Array | AsyncIterable<Uint8Array>;
  /** Bound on stdout and on stderr, each. */
  maxOutputBytes: number;
  /** Takes stdout in place of the result; until what it gives resolves, the other side has to wait. */
  onStdout?: (piece: Uint8Array) => void | Promise<void>;
}

/**
 * Why a run is ended early. It is the reason of the signal given to `execute`, which adds what became
 * of the remote processes.
 */
export class EarlyEnd {
  constructor(readonly code: "DEADLINE_EXCEEDED" | "CANCELLED", readonly message: string) {}

  /** `outcome` continues the sentence. */
  toError(outcome: string): CriError {
    return new CriError(this.code, `${this.message}: ${outcome}`);
  }
}

/**
 * Runs a script on a channel of `connection` to its end.
 * @throws CriError as `ClusterSession.run` documents it.
 */
export async function execute(
  connection: Connection,
  request: ExecRequest,
  signal: AbortSignal,
): Promise<RunResult> {
  const wrapped = wrapScript(request.script);
  await connection.budget.acquire(signal);
  try {
    const channel = await connection.openCommandChannel(signal);
    return await new Execution(connection, channel, request, wrapped.marker).run(
      wrapped.stdinLine,
      signal,
    );
  } finally {
    connection.budget.release();
  }
}

class Execution {
  readonly #stdout: OutputCollector;
  readonly #stderr: OutputCollector;
  readonly #stdoutFilter: MarkerFilter;
  readonly #stderrFilter: MarkerFilter;
  /** Ends the wait for the channel to take more input, which it never will once it is closed. */
  #stopWriting: (() => void) | undefined;
  #closed = false;
  /** Resolves when the last piece of stdout was taken, which may be later than the channel's end. */
  #taken: Promise<void> = Promise.resolve();
  /** Rejects with the first reason to give up. */
  readonly #failed = Promise.withResolvers<never>();

  constructor(
    private readonly connection: Connection,
    private readonly channel: CommandChannel,
    private readonly request: ExecRequest,
    marker: string,
  ) {
    const tooLarge = (stream: string) =>
      this.#failed.reject(
        new CriError(
          "RESOURCE_EXHAUSTED",
          `Cannot keep the ${stream} of a command on ${connection.name} as it must be at most ` +
            `${request.maxOutputBytes} bytes`,
        ),
      );
    const noMarker = () =>
      this.#failed.reject(
        new CriError(
          "FAILED_PRECONDITION",
          `Cannot run a command on ${connection.name} as the login shell must print less than ` +
            `${MAX_BANNER_BYTES} bytes before it starts`,
        ),
      );
    this.#stdout = new OutputCollector(request.maxOutputBytes, () => tooLarge("stdout"));
    this.#stderr = new OutputCollector(request.maxOutputBytes, () => tooLarge("stderr"));
    this.#stdoutFilter = new MarkerFilter(marker, (chunk) => this.#takeStdout(chunk), noMarker);
    this.#stderrFilter = new MarkerFilter(marker, (chunk) => this.#stderr.add(chunk), noMarker);
    const { stream } = channel;
    stream.on("data", (chunk: Uint8Array) => this.#stdoutFilter.add(chunk));
    stream.stderr.on("data", (chunk: Uint8Array) => this.#stderrFilter.add(chunk));
    channel.closed.then(() => {
      this.#closed = true;
      this.#stopWriting?.();
    });
    this.#failed.promise.catch(() => {
      // Whoever waits in run() is told; a failure after the end is of no interest.
    });
  }

  async run(stdinLine: Uint8Array, signal: AbortSignal): Promise<RunResult> {
    const onAbort = () => this.#failed.reject(signal.reason);
    if (signal.aborted) onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    this.#writeStdin(stdinLine).catch((error) => this.#failed.reject(error));
    try {
      const finished = this.channel.closed.then(() => this.#taken);
      await Promise.race([finished, this.#failed.promise]);
    } catch (reason) {
      const outcome = await this.#end();
      if (reason instanceof EarlyEnd) throw reason.toError(outcome);
      const error = CriError.from(reason);
      throw new CriError(error.code, `${error.message}: ${outcome}`, { cause: error });
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
    return this.#result();
  }

  #takeStdout(chunk: Uint8Array): void {
    const { onStdout } = this.request;
    if (onStdout === undefined) return this.#stdout.add(chunk);
    try {
      const taken = onStdout(chunk);
      if (taken === undefined) return;
      const { stream } = this.channel;
      stream.pause();
      this.#taken = taken.then(() => {
        stream.resume();
      }, (error) => this.#failed.reject(error));
    } catch (error) {
      // Thrown on, it would end the whole connection.
      this.#failed.reject(error);
    }
  }

  #result(): RunResult {
    const { name, endedBy } = this.connection;
    if (endedBy !== undefined) {
      throw new CriError(
        "UNKNOWN",
        `Cannot tell how a command on ${name} ended, or whether it ran, as the connection must stay ` +
          `until it ends: ${endedBy.message}`,
        { cause: endedBy },
      );
    }
    if (!this.#stdoutFilter.seen) {
      const said = [this.#stdoutFilter.banner, this.#stderrFilter.banner].filter(Boolean).join(
        "; ",
      );
      const hint = said === ""
        ? " (a start-up file of it, as .bashrc, may end it or read its input)"
        : "";
      throw new CriError(
        "FAILED_PRECONDITION",
        `Cannot run a command on ${name} as the login shell must run \`${COMMAND_LINE}\`: it ended with ` +
          `${this.#describeExit()} and said ${JSON.stringify(said.slice(0, 500))}${hint}`,
      );
    }
    if (this.channel.exit === undefined) {
      throw new CriError(
        "UNKNOWN",
        `Cannot tell how a command on ${name} ended as the server must give its exit code: it closed the ` +
          `channel without one`,
      );
    }
    return {
      code: this.channel.exit.code ?? signalExitCode(this.channel.exit.signal ?? ""),
      stdout: this.#stdout.bytes(),
      // A script that began without stderr's marker had its stderr closed by a login script.
      stderr: this.#stderr.bytes(),
    };
  }

  #describeExit(): string {
    if (this.channel.exit === undefined) return "no exit code";
    return this.channel.exit.code === null
      ? `signal ${this.channel.exit.signal}`
      : `exit code ${this.channel.exit.code}`;
  }

  /** Writes the script and the data, for as long as the other side takes them. */
  async #writeStdin(stdinLine: Uint8Array): Promise<void> {
    await this.#write(stdinLine);
    const { stdin } = this.request;
    if (stdin instanceof Uint8Array) {
      if (stdin.length > 0) await this.#write(stdin);
    } else {
      await this.#writeAll(stdin);
    }
    this.channel.stream.end();
  }

  async #writeAll(source: AsyncIterable<Uint8Array>): Promise<void> {
    const iterator = source[Symbol.asyncIterator]();
    try {
      for (;;) {
        const next = await this.#untilClosed(iterator.next());
        if (next === undefined || next.done) return;
        if (next.value.length > 0) await this.#write(next.value);
      }
    } catch (error) {
      throw new CriError(
        "CANCELLED",
        `Cannot go on with a command on ${this.connection.name} as its input failed: ${
          messageOf(error)
        }`,
        { cause: error },
      );
    } finally {
      // Not waited for: a source that is stuck would keep us as well.
      iterator.return?.()?.catch(() => {});
    }
  }

  /** Resolves when the channel has taken the bytes, or will never: then its end tells the outcome. */
  async #write(bytes: Uint8Array): Promise<void> {
    await this.#untilClosed(
      new Promise<void>((resolve) => this.channel.stream.write(bytes, () => resolve())),
    );
  }

  /** What `promise` gives, or undefined when the channel closes first. One call at a time. */
  #untilClosed<T>(promise: Promise<T>): Promise<T | undefined> {
    return new Promise((resolve, reject) => {
      if (this.#closed) return resolve(undefined);
      this.#stopWriting = () => resolve(undefined);
      promise.then(resolve, reject);
    });
  }

  /** Ends what runs remotely. Gives the end of a sentence: what became of it. */
  async #end(): Promise<string> {
    // Behind the marker stands the process id; it may be on its way. If it does not come, the script has
    // not begun, and it will not: its first act is to print the marker to the channel that we close.
    await within(MARKER_WAIT_MS, this.#stdoutFilter.found, this.channel.exited);
    const processId = Number(this.#stdoutFilter.rest);
    if (processId > 0 && this.channel.exit === undefined) {
      await killProcessGroup(this.connection, processId, this.channel.exited);
    }
    if (this.connection.endedBy !== undefined) return "it may still run there";
    this.channel.stream.close();
    if (processId === 0) return "it had not begun";
    return this.channel.exit === undefined
      ? "it could not be killed and may still run there"
      : "its processes were killed";
  }
}
