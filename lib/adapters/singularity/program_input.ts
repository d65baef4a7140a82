import { Buffer } from "node:buffer";
import { close, constants, open, write } from "node:fs";
import { promisify } from "node:util";
import type { Clock } from "../../base/clock.ts";
import type { ContainerConfig } from "../../cri/api.generated.ts";
import type { CommandStreams } from "../../streaming/process.ts";
import { inputFrame } from "../steps/frames.ts";

/** A frame goes into the pipe whole, since several clients may be attached (PIPE_BUF, pipe(7)). */
const FRAME_BYTES = 4096 - 5;
/** Between tries to write into a pipe that is full. */
const FULL_PAUSE_MS = 20;
/**
 * So long a program that reads nothing may take until it is told that its client is gone; a server's end waits for it.
 */
const CUT_WAIT_MS = 5_000;

/** A client's input, and the program that it is for. */
export interface ProgramInput {
  /** The pipe that the supervisor reads, which a program has with a stdin or a terminal. */
  path: string;
  config: Pick<ContainerConfig, "stdin" | "stdinOnce" | "tty">;
  /** Whether the client has a stdin of its own; one that has none ends nothing. */
  wanted: boolean;
  streams: Pick<CommandStreams, "stdin" | "resizes">;
  /** The client has no more to say, and will not be waited for. */
  onLeave: () => void;
  clock: Clock;
}

/**
 * Passes a client's input to a container's program until `over` aborts, or `gone`, with the client. The end of the
 * first client's stdin is the program's with stdinOnce (api.proto), whatever ended it; but one on a terminal is let
 * alone when its client is cut off, who may come back. Otherwise the client leaves with it. So does containerd.
 */
export async function passInput(
  { path, config, wanted, streams, onLeave, clock }: ProgramInput,
  gone: AbortSignal,
  over: AbortSignal,
): Promise<void> {
  const either = AbortSignal.any([gone, over]);
  const aborted = new Promise<void>((resolve) => {
    if (either.aborted) resolve();
    else either.addEventListener("abort", () => resolve(), { once: true });
  });
  const hasInput = config.stdin && wanted;
  // Unread, it would hold up everything else that the client sends.
  if (!hasInput) drain(streams.stdin).catch(() => {});
  if (!config.stdin && !config.tty) return;
  const pipe = await InputPipe.open(path, clock);
  try {
    // What a stream throws means that its client is gone; what the pipe throws, that the program is.
    passSizes(streams.resizes, pipe, either).catch(() => {});
    if (hasInput) {
      const passed = passBytes(streams.stdin, pipe, either).then(() => true, () => false);
      // Nobody waits for a client that says nothing.
      const inOrder = await Promise.race([passed, aborted.then(() => false)]);
      if (!config.stdinOnce) onLeave();
      else if (inOrder && !either.aborted || !config.tty) await endInput(pipe, clock, gone, over);
    }
    await aborted;
  } finally {
    await pipe.close();
  }
}

async function drain(stdin: AsyncIterator<Uint8Array>): Promise<void> {
  while (!(await stdin.next()).done);
}

async function passBytes(
  stdin: CommandStreams["stdin"],
  pipe: InputPipe,
  signal: AbortSignal,
): Promise<void> {
  for await (const piece of stdin) {
    for (let at = 0; at < piece.length; at += FRAME_BYTES) {
      await pipe.send("i", piece.subarray(at, at + FRAME_BYTES), signal);
    }
  }
}

async function passSizes(
  resizes: CommandStreams["resizes"],
  pipe: InputPipe,
  signal: AbortSignal,
): Promise<void> {
  for await (const { width, height } of resizes) {
    await pipe.send("w", new TextEncoder().encode(`${width} ${height}`), signal);
  }
}

/** Ends the program's stdin, also when the client is gone, but not when the program is `over`. */
async function endInput(
  pipe: InputPipe,
  clock: Clock,
  gone: AbortSignal,
  over: AbortSignal,
): Promise<void> {
  const [ended, tooLate] = [new AbortController(), new AbortController()];
  const onGone = () => {
    clock.sleep(CUT_WAIT_MS, ended.signal).then(() => tooLate.abort(), () => {});
  };
  if (gone.aborted) onGone();
  else gone.addEventListener("abort", onGone, { once: true, signal: ended.signal });
  await pipe.send("e", new Uint8Array(), AbortSignal.any([over, tooLate.signal]))
    .finally(() => ended.abort());
}

/** The pipe that the supervisor reads, written by one client; frames go one after the other. */
class InputPipe {
  #last: Promise<void> = Promise.resolve();

  private constructor(private readonly file: number, private readonly clock: Clock) {}

  /** @throws Error when nobody reads the pipe any more. */
  static async open(path: string, clock: Clock): Promise<InputPipe> {
    // Without O_NONBLOCK a thread of this process would wait for a program that reads nothing.
    return new InputPipe(
      await promisify(open)(path, constants.O_WRONLY | constants.O_NONBLOCK),
      clock,
    );
  }

  /** Resolves when the frame was written, or `signal` aborts. @throws Error when nobody reads the pipe any more. */
  async send(letter: "i" | "e" | "w", bytes: Uint8Array, signal: AbortSignal): Promise<void> {
    const before = this.#last;
    const sent = before.then(() => this.#write(inputFrame(letter, bytes), signal));
    this.#last = sent.catch(() => {});
    await sent;
  }

  async close(): Promise<void> {
    await this.#last;
    await promisify(close)(this.file);
  }

  async #write(frame: Uint8Array, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await promisify(write)(this.file, Buffer.from(frame));
        return;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
      }
      await this.clock.sleep(FULL_PAUSE_MS, signal).catch(() => {});
    }
  }
}
