import type { ContainerLog } from "../../logs/container_log.ts";
import type { LogStream, Turn } from "../../logs/turns.ts";

/** What is read at once. */
const READ_BYTES = 1024 * 1024;

/** The length of a file; 0 when it is not there. */
export async function sizeOf(path: string): Promise<number> {
  return await Deno.stat(path).then(({ size }) => size, () => 0);
}

/** Reads a piece of a file; empty behind its end, or when it is not there. */
export async function readPiece(
  path: string,
  offset: number,
  maxBytes = READ_BYTES,
): Promise<Uint8Array> {
  try {
    using file = await Deno.open(path);
    await file.seek(offset, Deno.SeekMode.Start);
    const buffer = new Uint8Array(Math.min(maxBytes, READ_BYTES));
    let length = 0;
    while (length < buffer.length) {
      const read = await file.read(buffer.subarray(length));
      if (read === null) break;
      length += read;
    }
    return buffer.subarray(0, length);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return new Uint8Array();
    throw error;
  }
}

/** The output of a container's program, as its supervisor leaves it in files: see supervise.pl. */
export class Output {
  /** Where the turns begin, in their file, that are not known to be in the log. */
  #turnsAt = 0;

  /** @param files What the paths of the files begin with. */
  constructor(private readonly files: string, private readonly log: ContainerLog) {}

  /** How much of the beginning of a file nobody needs any more, nor another server if this one dies. */
  copiedBytes(kind: LogStream | "turns"): number {
    if (kind !== "turns") return this.log.safeBytes(kind);
    return this.log.isSafe ? this.#turnsAt : 0;
  }

  async missingBytes(stream: LogStream): Promise<number> {
    return await sizeOf(`${this.files}.${stream}`) - this.log.consumedBytes(stream);
  }

  /**
   * Copies what came into the log, from where the log says that it ends; with `final` unfinished last lines too. A log
   * that is full is only not written to.
   */
  async copy(final: boolean): Promise<void> {
    while (!this.log.isFull) {
      // Before the turns are read: so those of all that is counted here are there.
      const missing = {
        stdout: await this.missingBytes("stdout"),
        stderr: await this.missingBytes("stderr"),
      };
      if (missing.stdout <= 0 && missing.stderr <= 0) return;
      const output = {
        stdout: await this.#read("stdout", missing.stdout),
        stderr: await this.#read("stderr", missing.stderr),
      };
      const turnsAt = this.#turnsAt;
      const { turns, isPart } = await this.#turns(output, missing, final);
      const taken = await this.log.appendTurns(output, turns);
      if (!isPart && taken.stdout + taken.stderr === 0 && this.#turnsAt === turnsAt) return;
    }
  }

  async #read(stream: LogStream, bytes: number): Promise<Uint8Array> {
    if (bytes <= 0) return new Uint8Array();
    return await readPiece(`${this.files}.${stream}`, this.log.consumedBytes(stream), bytes);
  }

  /** In which order the pieces of output came that were read; a part of it when more must be read first. */
  async #turns(
    output: Record<LogStream, Uint8Array>,
    missing: Record<LogStream, number>,
    final: boolean,
  ): Promise<{ turns: Turn[]; isPart: boolean }> {
    const turns: Turn[] = [];
    const piece = await readPiece(`${this.files}.turns`, this.#turnsAt);
    let isTorn = false;
    for (let at = 0; at + TURN_BYTES <= piece.length; at += TURN_BYTES) {
      const { stream, endBytes } = readTurn(piece.subarray(at, at + TURN_BYTES));
      const until = endBytes - this.log.consumedBytes(stream);
      if (until <= 0) {
        if (turns.length === 0) this.#turnsAt += TURN_BYTES;
        continue;
      }
      // One that is longer than its stream was torn by a full disk; what is behind it tells nothing.
      isTorn = until > missing[stream] && until > await this.missingBytes(stream);
      if (isTorn) break;
      turns.push({ stream, until, final: false });
      // What follows waits until the rest was read.
      if (until > output[stream].length) return { turns, isPart: true };
    }
    if (piece.length === READ_BYTES && !isTorn) return { turns, isPart: false };
    // An unfinished line has its end with the program's.
    for (const isEnd of final ? [false, true] : [false]) {
      for (const stream of ["stdout", "stderr"] as const) {
        const until = output[stream].length;
        turns.push({ stream, until, final: isEnd && until === missing[stream] });
      }
    }
    return { turns, isPart: false };
  }
}

/** The length of a turn in its file. */
const TURN_BYTES = 16;

/** A turn that says nothing, such as one whose room was given back, ends at 0. */
function readTurn(bytes: Uint8Array): { stream: LogStream; endBytes: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, TURN_BYTES);
  const stream = view.getUint8(0) === "e".charCodeAt(0) ? "stderr" : "stdout";
  return { stream, endBytes: Number(view.getBigUint64(8, true)) };
}
