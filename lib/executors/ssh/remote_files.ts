import { concat } from "@std/bytes/concat";
import { Buffer } from "node:buffer";
import { CriError, messageOf } from "../../base/error.ts";
import { type SftpChannel, SftpStatus, SftpStatusError } from "./sftp_channel.ts";

/** Pieces of a file on the wire; OpenSSH's server takes up to 255 KiB. */
const CHUNK_BYTES = 128 * 1024;

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

/**
 * The names of what a folder holds, in no order; undefined when there is none. No more are asked for when `maxNames`
 * have come: whoever fills folders on the cluster fills no memory here.
 */
export async function listFolder(
  sftp: SftpChannel,
  path: string,
  maxNames: number,
): Promise<string[] | undefined> {
  let handle: Buffer;
  try {
    handle = await sftp.request<Buffer>((wrapper, done) => wrapper.opendir(path, done));
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw translate(sftp, error, "list", path);
  }
  const names: string[] = [];
  try {
    for (let room = maxNames; room > 0;) {
      const entries = await sftp.request<{ filename: string }[]>((wrapper, done) =>
        wrapper.readdir(handle, done)
      );
      names.push(...entries.map(({ filename }) => filename));
      // A server may go on for ever without naming anything.
      room -= Math.max(1, entries.length);
    }
  } catch (error) {
    const isEnd = error instanceof SftpStatusError && error.status === SftpStatus.endOfFile;
    if (!isEnd) throw translate(sftp, error, "list", path);
  } finally {
    closeHandle(sftp, handle);
  }
  return names;
}

/** The target of a symbolic link; undefined when there is nothing, or something else. */
export async function readLink(sftp: SftpChannel, path: string): Promise<string | undefined> {
  try {
    return await sftp.request<string>((wrapper, done) => wrapper.readlink(path, done));
  } catch (error) {
    // OpenSSH's server answers "failure" for what is no link.
    const isOther = error instanceof SftpStatusError && error.status === SftpStatus.failure;
    if (isOther || isMissing(error)) return undefined;
    throw translate(sftp, error, "read the link", path);
  }
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
  return pieces.length === 1 && pieces[0] ? pieces[0] : concat(pieces);
}

/** Exactly `length` bytes, or fewer at the end of the file; a server may answer in smaller parts. */
async function readPiece(
  sftp: SftpChannel,
  handle: Buffer,
  position: number,
  length: number,
): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  const buffer = Buffer.from(bytes.buffer);
  let filled = 0;
  while (filled < length) {
    const count = await sftp.request<number>((wrapper, done) =>
      wrapper.read(handle, buffer, filled, length - filled, position + filled, done)
    );
    if (count === 0) break;
    filled += count;
  }
  return bytes.subarray(0, filled);
}

/** Closes in the background: nothing depends on it, and a closed channel has closed its handles. */
function closeHandle(sftp: SftpChannel, handle: Buffer): void {
  sftp.request<void>((wrapper, done) => wrapper.close(handle, done)).catch(() => {});
}

function isMissing(error: unknown): boolean {
  return error instanceof SftpStatusError && error.status === SftpStatus.noSuchFile;
}

/** Puts the server's "no" into words; `verb` is what was tried with `path`. */
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
        } (sftp gives no reason; a directory in its place is the usual one)`,
        { cause: error },
      );
  }
}
