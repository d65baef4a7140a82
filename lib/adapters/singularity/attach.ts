import { Buffer } from "node:buffer";
import { constants, open } from "node:fs";
import { close, write } from "node:fs";
import { promisify } from "node:util";
import type { Clock } from "../../base/clock.ts";
import type { CommandStreams } from "../../streaming/process.ts";
import { inputFrame } from "../steps/frames.ts";
import { readPiece, sizeOf } from "./output.ts";
import type { RunningContainer } from "./running_container.ts";

/** A frame goes into the pipe whole, since several clients may be attached (PIPE_BUF, pipe(7)). */
const FRAME_BYTES = 4096 - 5;
/** Between tries to write into a pipe that is full. */
const FULL_PAUSE_MS = 20;

/**
 * Passes what a container's program writes from now on to a client, and the client's input to it; resolves with 0 when
 * the program has ended. When `signal` aborts, the program is left alone.
 * @param inputPath The pipe that the supervisor reads; undefined for a program that takes no input.
 */
export async function attach(
  container: RunningContainer,
  inputPath: string | undefined,
  hasEnded: () => boolean,
  clock: Clock,
  streams: CommandStreams,
  signal: AbortSignal,
): Promise<number> {
  const over = new AbortController();
  const either = AbortSignal.any([signal, over.signal]);
  const input = inputPath !== undefined
    // Its program may be gone already, with whom the pipe has no reader; that its end follows says enough.
    ? passInput(inputPath, clock, streams, either).catch(() => {})
    : Promise.resolve();
  const offsets = {
    stdout: await sizeOf(`${container.files}.stdout`),
    stderr: await sizeOf(`${container.files}.stderr`),
  };
  const stopKeeping = container.keepFor(offsets);
  try {
    while (!signal.aborted) {
      const change = container.change;
      const ended = hasEnded();
      let passed = 0;
      for (const stream of ["stdout", "stderr"] as const) {
        const piece = await readPiece(`${container.files}.${stream}`, offsets[stream]);
        if (piece.length === 0) continue;
        await streams[stream](piece);
        offsets[stream] += piece.length;
        passed += piece.length;
      }
      if (passed > 0) continue;
      if (ended) return 0;
      await container.until(change, either);
    }
    throw signal.reason;
  } finally {
    over.abort();
    stopKeeping();
    await streams.stdin.return?.();
    await streams.resizes.return?.();
    await input;
  }
}

/** Writes frames into the pipe that the supervisor reads. */
async function passInput(
  path: string,
  clock: Clock,
  { stdin, resizes }: CommandStreams,
  signal: AbortSignal,
): Promise<void> {
  // Without O_NONBLOCK a thread of this process would wait for a program that reads nothing.
  const file = await promisify(open)(path, constants.O_WRONLY | constants.O_NONBLOCK);
  const send = async (letter: "i" | "e" | "w", bytes: Uint8Array) => {
    const frame = inputFrame(letter, bytes);
    while (!signal.aborted) {
      const written = await promisify(write)(file, Buffer.from(frame)).then(
        () => true,
        (error) => {
          if (error.code === "EAGAIN") return false;
          throw error;
        },
      );
      if (written) return;
      await clock.sleep(FULL_PAUSE_MS, signal).catch(() => {});
    }
  };
  const passBytes = async () => {
    for await (const piece of stdin) {
      for (let at = 0; at < piece.length; at += FRAME_BYTES) {
        await send("i", piece.subarray(at, at + FRAME_BYTES));
      }
    }
    await send("e", new Uint8Array());
  };
  const passSizes = async () => {
    for await (const { width, height } of resizes) {
      await send("w", new TextEncoder().encode(`${width} ${height}`));
    }
  };
  const over = Promise.withResolvers<void>();
  const onAbort = () => over.resolve();
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) over.resolve();
  // What a stream throws means that its client is gone; what the pipe throws, that the program is. Nobody waits for a
  // client that says nothing.
  await Promise.race([Promise.allSettled([passBytes(), passSizes()]), over.promise]);
  signal.removeEventListener("abort", onAbort);
  await promisify(close)(file);
}
