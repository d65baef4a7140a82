import { Buffer } from "node:buffer";
import { CriError, messageOf } from "../../base/error.ts";
import { type SftpChannel, SftpStatus, SftpStatusError } from "./sftp_channel.ts";

/** Pieces of a file on the wire; OpenSSH's server takes up to 255 KiB. */
export const CHUNK_BYTES = 128 * 1024;

/** Pieces of one file in flight: 2 MiB, the window of an sshd channel; others find room beside them. */
const CHUNKS_IN_FLIGHT = 16;

/** What `stat` tells of a file. */
export interface RemoteStat {
  sizeBytes: number;
  /** Milliseconds since the Unix epoch; sftp carries whole seconds. */
  mtimeMs: number;
  /** st_mode with the bits of the file's type, as inode(7) has them. */
  mode: number;
}

/** The attributes of a file behind its links; undefined when there is none. */
export async function statFile(sftp: SftpChannel, path: string): Promise<RemoteStat | undefined> {
  try {
    const stats = await sftp.request<{ size: number; mtime: number; mode: number }>((
      wrapper,
      done,
    ) => wrapper.stat(path, done));
    return { sizeBytes: stats.size, mtimeMs: stats.mtime * 1000, mode: stats.mode };
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw translate(sftp, error, "read the attributes of", path);
  }
}

/** Up to `maxBytes` from `offsetBytes` on, fewer only at the end; undefined when there is no file. */
export async function readFileAt(
  sftp: SftpChannel,
  path: string,
  offsetBytes: number,
  maxBytes: number,
): Promise<Uint8Array | undefined> {
  let handle: Buffer;
  try {
    handle = await sftp.request<Buffer>((wrapper, done) => wrapper.open(path, "r", done));
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw translate(sftp, error, "open", path);
  }
  try {
    return await readRange(sftp, handle, offsetBytes, maxBytes);
  } catch (error) {
    throw translate(sftp, error, "read", path);
  } finally {
    closeHandle(sftp, handle);
  }
}

/** The whole file. @throws CriError RESOURCE_EXHAUSTED when it is longer than `maxBytes`. */
export async function readWholeFile(
  sftp: SftpChannel,
  path: string,
  maxBytes: number,
): Promise<Uint8Array | undefined> {
  const bytes = await readFileAt(sftp, path, 0, maxBytes + 1);
  if (bytes !== undefined && bytes.length > maxBytes) {
    throw new CriError(
      "RESOURCE_EXHAUSTED",
      `Cannot read ${path} as it must be at most ${maxBytes} bytes: it is longer`,
    );
  }
  return bytes;
}

/** Removes a file or link. False when there was none. */
export async function removeFile(sftp: SftpChannel, path: string): Promise<boolean> {
  try {
    await sftp.request<void>((wrapper, done) => wrapper.unlink(path, done));
    return true;
  } catch (error) {
    if (isMissing(error)) return false;
    throw translate(sftp, error, "remove", path);
  }
}

async function readRange(
  sftp: SftpChannel,
  handle: Buffer,
  offsetBytes: number,
  maxBytes: number,
): Promise<Uint8Array> {
  // Most files fit into one piece; only when that one is full is more asked for, many pieces at once.
  let end = Math.min(CHUNK_BYTES, maxBytes);
  const pieces = [await readPiece(sftp, handle, offsetBytes, end)];
  let atEnd = (pieces[0]?.length ?? 0) < end;
  while (!atEnd && end < maxBytes) {
    const wave: Promise<Uint8Array>[] = [];
    const wanted: number[] = [];
    while (wave.length < CHUNKS_IN_FLIGHT && end < maxBytes) {
      const length = Math.min(CHUNK_BYTES, maxBytes - end);
      wave.push(readPiece(sftp, handle, offsetBytes + end, length));
      wanted.push(length);
      end += length;
    }
    for (const [index, piece] of (await Promise.all(wave)).entries()) {
      // A file that grows meanwhile may have bytes behind a short piece: they are for the next call.
      if (!atEnd) pieces.push(piece);
      if (piece.length < (wanted[index] ?? 0)) atEnd = true;
    }
  }
  return pieces.length === 1 && pieces[0] ? pieces[0] : Buffer.concat(pieces);
}

/** Exactly `length` bytes, or fewer at the end of the file; a server may answer in smaller parts. */
async function readPiece(
  sftp: SftpChannel,
  handle: Buffer,
  position: number,
  length: number,
): Promise<Uint8Array> {
  const buffer = Buffer.alloc(length);
  let filled = 0;
  while (filled < length) {
    const count = await sftp.request<number>((wrapper, done) =>
      wrapper.read(handle, buffer, filled, length - filled, position + filled, done)
    );
    if (count === 0) break;
    filled += count;
  }
  return buffer.subarray(0, filled);
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

/** ssh2 sends a larger write to a server other than OpenSSH in parts, each after the answer to the last. */
const UNSPLIT_WRITE_BYTES = 30 * 1024;

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

/** Closes in the background: nothing depends on it, and a closed channel has closed its handles. */
function closeHandle(sftp: SftpChannel, handle: Buffer): void {
  sftp.request<void>((wrapper, done) => wrapper.close(handle, done)).catch(() => {});
}

/** Removes what is of no use in the background; the error that led here is what counts. */
function discardFile(sftp: SftpChannel, path: string): void {
  sftp.request<void>((wrapper, done) => wrapper.unlink(path, done)).catch(() => {});
}

function isMissing(error: unknown): boolean {
  return error instanceof SftpStatusError && error.status === SftpStatus.noSuchFile;
}

function translate(sftp: SftpChannel, error: unknown, verb: string, path: string): CriError {
  if (!(error instanceof SftpStatusError)) return CriError.from(error);
  const what = `Cannot ${verb} ${path} on ${sftp.name} as `;
  switch (error.status) {
    case SftpStatus.noSuchFile:
      return new CriError("NOT_FOUND", `${what}it and its folder must exist: they do not`, {
        cause: error,
      });
    case SftpStatus.permissionDenied:
      return new CriError(
        "PERMISSION_DENIED",
        `${what}the user must be allowed to: permission denied`,
        { cause: error },
      );
    default:
      return new CriError(
        "FAILED_PRECONDITION",
        `${what}the file system must allow it: ${
          messageOf(error)
        } (sftp gives no reason; a full disk, ` +
          `an exceeded quota or a directory in its place are the usual ones)`,
        { cause: error },
      );
  }
}
