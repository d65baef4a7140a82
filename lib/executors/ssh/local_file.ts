import { CriError, messageOf } from "../../base/error.ts";

/** Reads of this size cost little beside what they bring. */
const PIECE_BYTES = 512 * 1024;

/** A local file that is about to be sent. */
export interface LocalFile extends Disposable {
  /** Its bytes in pieces of up to PIECE_BYTES. */
  pieces(): AsyncGenerator<Uint8Array>;
}

/**
 * Opens a local file for reading. The pieces end with CANCELLED when `signal` aborts.
 * @throws CriError NOT_FOUND when there is no such file, FAILED_PRECONDITION when it cannot be read.
 */
export async function openLocalFile(path: string, signal?: AbortSignal): Promise<LocalFile> {
  let file: Deno.FsFile;
  try {
    file = await Deno.open(path);
  } catch (error) {
    throw unreadable(path, error);
  }
  return {
    async *pieces() {
      for (;;) {
        if (signal?.aborted) {
          throw new CriError(
            "CANCELLED",
            `Sending ${path} was cancelled: ${messageOf(signal.reason)}`,
            { cause: signal.reason },
          );
        }
        // A fresh buffer each time: the piece before may still be on its way.
        const piece = new Uint8Array(PIECE_BYTES);
        const count = await file.read(piece).catch((error) => {
          throw unreadable(path, error);
        });
        if (count === null) return;
        yield piece.subarray(0, count);
      }
    },
    [Symbol.dispose]: () => file.close(),
  };
}

function unreadable(path: string, error: unknown): CriError {
  const code = error instanceof Deno.errors.NotFound ? "NOT_FOUND" : "FAILED_PRECONDITION";
  return new CriError(
    code,
    `Cannot send ${path} as it must be a file we can read: ${messageOf(error)}`,
    { cause: error },
  );
}
