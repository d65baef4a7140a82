import { CriError, messageOf } from "../base/error.ts";
import { inheritedEnvironment } from "./local.ts";

/** Of what a program says on stderr, which is for messages only. */
const MAX_WORDS_BYTES = 4096;

/** A program of this machine that is spoken with while it runs. */
export interface RunningProcess {
  /** What it writes; the next piece is read when the one before was taken. */
  readonly output: AsyncIterable<Uint8Array>;
  /** Resolves when it can take more. Nothing happens when it has ended. */
  write(bytes: Uint8Array): Promise<void>;
  /** Ends its stdin. */
  endInput(): Promise<void>;
  /** Resolves when it has ended, with the code and what it said on stderr. */
  ended(): Promise<{ code: number; words: string }>;
  kill(): void;
}

/** Starts programs of this machine. */
export interface ProcessStarter {
  /** @throws CriError NOT_FOUND when there is no such program. */
  start(argv: readonly [string, ...string[]]): RunningProcess;
}

/** Starts programs as the user of this process, with as little of its environment as `createLocalExecutor`. */
export const localProcesses: ProcessStarter = { start: (argv) => new LocalProcess(argv) };

class LocalProcess implements RunningProcess {
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #words: Promise<string>;

  constructor([program, ...args]: readonly [string, ...string[]]) {
    try {
      this.#child = new Deno.Command(program, {
        args,
        clearEnv: true,
        env: inheritedEnvironment(),
        stdin: "piped",
        stdout: "piped",
        stderr: "piped",
      }).spawn();
    } catch (error) {
      const code = error instanceof Deno.errors.NotFound ? "NOT_FOUND" : "INTERNAL";
      throw new CriError(code, `Cannot run ${program}: ${messageOf(error)}.`, { cause: error });
    }
    this.#input = this.#child.stdin.getWriter();
    // Its end may come before somebody asks.
    this.#input.closed.catch(() => {});
    this.#words = readWords(this.#child.stderr);
  }

  get output(): AsyncIterable<Uint8Array> {
    return this.#child.stdout;
  }

  async write(bytes: Uint8Array): Promise<void> {
    await this.#input.write(bytes).catch(() => {
      // Its end tells what there is to tell.
    });
  }

  async endInput(): Promise<void> {
    await this.#input.close().catch(() => {
      // Likewise.
    });
  }

  async ended(): Promise<{ code: number; words: string }> {
    const [{ code }, words] = await Promise.all([this.#child.status, this.#words]);
    return { code, words };
  }

  kill(): void {
    try {
      this.#child.kill("SIGKILL");
    } catch (error) {
      // "Child process has already terminated": then there is nothing to end.
      if (!(error instanceof TypeError) && !(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
}

async function readWords(stream: ReadableStream<Uint8Array>): Promise<string> {
  let text = "";
  const decoder = new TextDecoder();
  for await (const piece of stream) {
    if (text.length < MAX_WORDS_BYTES) text += decoder.decode(piece, { stream: true });
  }
  return text.slice(0, MAX_WORDS_BYTES).trim().replaceAll(/\s*\n\s*/g, "; ");
}
