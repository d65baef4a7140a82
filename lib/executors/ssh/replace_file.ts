import { Buffer } from "node:buffer";
import { CriError } from "../../base/error.ts";
import {
  CHUNK_BYTES,
  CHUNKS_IN_FLIGHT,
  closeHandle,
  removeFile,
  translate,
} from "./remote_files.ts";
import { type SftpChannel, SftpStatusError } from "./sftp_channel.ts";

/** ssh2 sends a larger write to a server other than OpenSSH in parts, each after the answer to the last. */
const UNSPLIT_WRITE_BYTES = 30 * 1024;

/** Cuts bytes into what `replaceFile` sends at a time. */
export function* inPieces(bytes: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += CHUNK_BYTES) {
    yield bytes.subarray(at, at + CHUNK_BYTES);
  }
}

/**
 * Replaces `path` by a file with what `source` yields: written beside it under a name of its own, then
 * renamed, so that nobody ever sees a part. `source` yields pieces of up to CHUNK_BYTES.
 * @throws CriError UNKNOWN when the connection was lost while renaming; otherwise the old file stands.
 */
export async function replaceFile(
  sftp: SftpChannel,
  path: string,
  source: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  options: { mode: number; onWritten?: (totalBytes: number) => void },
): Promise<void> {
  const temporary = `${path}.${crypto.randomUUID().slice(0, 8)}.part`;
  try {
    await writeNewFile(sftp, temporary, source, options);
  } catch (error) {
    discardFile(sftp, temporary);
    throw translate(sftp, error, "write", path);
  }
  try {
    await rename(sftp, temporary, path);
  } catch (error) {
    if (error instanceof CriError && error.code === "UNAVAILABLE") {
      throw new CriError(
        "UNKNOWN",
        `Cannot tell whether ${path} was replaced as the connection must stay until the answer: ${error.message}`,
        { cause: error },
      );
    }
    discardFile(sftp, temporary);
    throw translate(sftp, error, "replace", path);
  }
}

async function writeNewFile(
  sftp: SftpChannel,
  path: string,
  source: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  options: { mode: number; onWritten?: (totalBytes: number) => void },
): Promise<void> {
  // Private until it is whole, whatever the umask and the mode asked for.
  const handle = await sftp.request<Buffer>((wrapper, done) =>
    wrapper.open(path, "wx", { mode: 0o600 }, done)
  );
  const writes = new Writes(sftp, handle, options.onWritten);
  try {
    for await (const piece of source) await writes.add(piece);
    // The server works in order, so whole writes need not be waited for.
    if (writes.mayBeSplit) await writes.settle();
    await writes.finish(options.mode);
  } catch (error) {
    await writes.settle().catch(() => {
      // The error that led here came first.
    });
    closeHandle(sftp, handle);
    throw error;
  }
}

/** The writes to one new file, some of them in flight. */
class Writes {
  mayBeSplit = false;
  #position = 0;
  #writtenBytes = 0;
  readonly #inFlight = new Set<Promise<void>>();
  #failure: { error: unknown } | undefined;

  constructor(
    private readonly sftp: SftpChannel,
    private readonly handle: Buffer,
    private readonly onWritten: ((totalBytes: number) => void) | undefined,
  ) {}

  /** Sends a write behind the ones before it. @throws what an earlier one failed with. */
  async add(piece: Uint8Array): Promise<void> {
    const bytes = Buffer.from(piece.buffer, piece.byteOffset, piece.length);
    const position = this.#position;
    this.#position += bytes.length;
    this.mayBeSplit ||= bytes.length > UNSPLIT_WRITE_BYTES;
    this.#track(
      this.sftp.request<void>((wrapper, done) =>
        wrapper.write(this.handle, bytes, 0, bytes.length, position, done)
      ).then(() => {
        this.#writtenBytes += bytes.length;
        this.onWritten?.(this.#writtenBytes);
      }),
    );
    if (this.#inFlight.size >= CHUNKS_IN_FLIGHT) await Promise.race(this.#inFlight);
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  /** Sets the mode, closes the file and waits for every answer. */
  async finish(mode: number): Promise<void> {
    this.#track(
      this.sftp.request<void>((wrapper, done) => wrapper.fchmod(this.handle, mode, done)),
    );
    this.#track(this.sftp.request<void>((wrapper, done) => wrapper.close(this.handle, done)));
    await this.settle();
  }

  /** Waits for every answer. @throws what the first failure was. */
  async settle(): Promise<void> {
    while (this.#inFlight.size > 0) await Promise.all(this.#inFlight);
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  #track(request: Promise<void>): void {
    const settled = request.catch((error) => {
      this.#failure ??= { error };
    }).finally(() => this.#inFlight.delete(settled));
    this.#inFlight.add(settled);
  }
}

async function rename(sftp: SftpChannel, from: string, to: string): Promise<void> {
  try {
    await sftp.request<void>((wrapper, done) => wrapper.ext_openssh_rename(from, to, done));
  } catch (error) {
    if (error instanceof CriError || error instanceof SftpStatusError) throw error;
    // No posix-rename: plain rename (draft 02, 6.5) fails when the target exists.
    await removeFile(sftp, to);
    await sftp.request<void>((wrapper, done) => wrapper.rename(from, to, done));
  }
}

/** Removes what is of no use in the background; the error that led here is what counts. */
function discardFile(sftp: SftpChannel, path: string): void {
  sftp.request<void>((wrapper, done) => wrapper.unlink(path, done)).catch(() => {});
}
