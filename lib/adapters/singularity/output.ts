import type { ContainerLog, LogStream } from "../../logs/container_log.ts";

/** What is read at once. */
const READ_BYTES = 1024 * 1024;

/** The length of a file; 0 when it is not there. */
export async function sizeOf(path: string): Promise<number> {
  return await Deno.stat(path).then(({ size }) => size, () => 0);
}

/** Reads a piece of a file; empty behind its end, or when it is not there. */
export async function readPiece(path: string, offset: number): Promise<Uint8Array> {
  try {
    using file = await Deno.open(path);
    await file.seek(offset, Deno.SeekMode.Start);
    const buffer = new Uint8Array(READ_BYTES);
    let length = 0;
    while (length < READ_BYTES) {
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

/**
 * Copies what came of one stream into the container's log, from where the log says that it ends; with `final` an
 * unfinished last line too. A log that is full is only not written to.
 */
export async function copyOutput(
  path: string,
  stream: LogStream,
  log: ContainerLog,
  final: boolean,
): Promise<void> {
  while (!log.isFull) {
    const piece = await readPiece(path, log.consumedBytes(stream));
    const atEnd = piece.length < READ_BYTES;
    let taken = 0;
    while (taken < piece.length) {
      const more = await log.append(stream, piece.subarray(taken), final && atEnd);
      if (more === 0) break;
      taken += more;
    }
    if (atEnd) return;
  }
}
