import { ByteQueue } from "../../streaming/byte_queue.ts";
import type { CommandStreams, TerminalSize } from "../../streaming/process.ts";
import { inputFrame } from "./frames.ts";

/**
 * How much of the input may be on its way without being taken. The other side always reads its stdin, whose end tells
 * it that nobody waits any more, so it is this that bounds what it holds.
 */
export const INPUT_WINDOW_BYTES = 1024 * 1024;
/** Of one frame. */
const PIECE_BYTES = 64 * 1024;
/** Frames that the channel has not taken yet: no more than the next. */
const HELD_BYTES = 1;

/** Makes frames for a step's stdin of what a client sends. */
export class StepInput {
  /** The frames, for `StepRequest.input`. */
  readonly frames = new ByteQueue(HELD_BYTES);
  #windowBytes = INPUT_WINDOW_BYTES;
  #widened: PromiseWithResolvers<void> | undefined;
  #closed = false;

  /** Begins to take what comes. What a stream throws means that its client is gone, which others see. */
  constructor(
    private readonly streams: {
      stdin: CommandStreams["stdin"];
      resizes?: CommandStreams["resizes"];
    },
  ) {
    this.#passBytes().catch(() => {});
    this.#passSizes().catch(() => {});
  }

  /** The other side has taken so many bytes. */
  taken(bytes: number): void {
    this.#windowBytes += bytes;
    this.#widened?.resolve();
  }

  /** Nobody takes input any more. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#widened?.resolve();
    await this.frames.return();
    await this.streams.stdin.return?.();
    await this.streams.resizes?.return?.();
  }

  async #passBytes(): Promise<void> {
    for await (const piece of this.streams.stdin) {
      for (let at = 0; at < piece.length;) {
        while (this.#windowBytes <= 0 && !this.#closed) {
          this.#widened = Promise.withResolvers();
          await this.#widened.promise;
        }
        const part = piece.subarray(at, at + Math.min(PIECE_BYTES, this.#windowBytes));
        at += part.length;
        this.#windowBytes -= part.length;
        await this.frames.push(inputFrame("i", part));
        if (this.#closed) return;
      }
    }
    await this.frames.push(inputFrame("e", new Uint8Array()));
  }

  async #passSizes(): Promise<void> {
    const { resizes } = this.streams;
    if (resizes === undefined) return;
    for await (const size of resizes) await this.frames.push(inputFrame("w", encodeSize(size)));
  }
}

function encodeSize({ width, height }: TerminalSize): Uint8Array {
  return new TextEncoder().encode(`${width} ${height}`);
}
