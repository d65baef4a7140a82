import { Buffer } from "node:buffer";
// @ts-types="@types/ssh2"
import { type Attributes, type SFTPWrapper, utils } from "ssh2";

const { STATUS_CODE } = utils.sftp;

/** What becomes of a request: it is served, never answered, or it closes the channel. */
export type SftpFault = (request: string) => "serve" | "stall" | "close";

/** As few as make a client ask again. */
const ENTRIES_AT_ONCE = 2;

/**
 * Serves this machine's files to who reads them, for tests. It offers small packets only, so a client gets large
 * transfers in parts.
 */
export function serveSftp(sftp: SFTPWrapper, fault: SftpFault): void {
  const files = new Map<string, Deno.FsFile>();
  let lastHandle = 0;
  const on = (name: string, serve: (requestId: number, ...args: never[]) => void) => {
    // deno-lint-ignore no-explicit-any -- the events' arguments differ; each handler names its own
    (sftp as any).on(name, (requestId: number, ...args: never[]) => {
      const what = fault(name);
      if (what === "close") return sftp.end();
      if (what === "stall") return;
      try {
        serve(requestId, ...args);
      } catch (error) {
        sftp.status(requestId, statusOf(error));
      }
    });
  };
  const fileOf = (handle: Buffer) => {
    const file = files.get(handle.toString());
    if (file === undefined) throw new Error("no such handle");
    return file;
  };
  on("OPEN", (requestId, path: string) => {
    const handle = String(++lastHandle);
    files.set(handle, Deno.openSync(path, { read: true }));
    sftp.handle(requestId, Buffer.from(handle));
  });
  on("READ", (requestId, handle: Buffer, offset: number, length: number) => {
    const file = fileOf(handle);
    file.seekSync(offset, Deno.SeekMode.Start);
    const buffer = new Uint8Array(length);
    const count = file.readSync(buffer);
    if (count === null) sftp.status(requestId, STATUS_CODE.EOF);
    else sftp.data(requestId, Buffer.from(buffer.subarray(0, count)));
  });
  on("CLOSE", (requestId, handle: Buffer) => {
    if (!folders.delete(handle.toString())) {
      fileOf(handle).close();
      files.delete(handle.toString());
    }
    sftp.status(requestId, STATUS_CODE.OK);
  });
  const folders = new Map<string, Deno.DirEntry[]>();
  on("OPENDIR", (requestId, path: string) => {
    const handle = String(++lastHandle);
    folders.set(handle, [...Deno.readDirSync(path)]);
    sftp.handle(requestId, Buffer.from(handle));
  });
  on("READDIR", (requestId, handle: Buffer) => {
    const entries = folders.get(handle.toString())?.splice(0, ENTRIES_AT_ONCE) ?? [];
    if (entries.length === 0) return void sftp.status(requestId, STATUS_CODE.EOF);
    const attrs = { mode: 0, uid: 0, gid: 0, size: 0, atime: 0, mtime: 0 };
    sftp.name(
      requestId,
      entries.map(({ name }) => ({ filename: name, longname: name, attrs })),
    );
  });
  on("STAT", (requestId, path: string) => {
    const info = Deno.statSync(path);
    sftp.attrs(requestId, {
      mode: info.mode ?? 0,
      uid: info.uid ?? 0,
      gid: info.gid ?? 0,
      size: info.size,
      atime: 0,
      mtime: Math.floor((info.mtime?.getTime() ?? 0) / 1000),
    });
  });
  on("READLINK", (requestId, path: string) => {
    const filename = Deno.readLinkSync(path);
    sftp.name(requestId, [{ filename, longname: filename, attrs: {} as Attributes }]);
  });
  on("REMOVE", (requestId, path: string) => {
    Deno.removeSync(path);
    sftp.status(requestId, STATUS_CODE.OK);
  });
  const closeAll = () => {
    for (const file of files.values()) file.close();
    files.clear();
  };
  sftp.on("end", closeAll);
  sftp.on("close", closeAll);
  sftp.on("error", closeAll);
}

function statusOf(error: unknown): number {
  if (error instanceof Deno.errors.NotFound) return STATUS_CODE.NO_SUCH_FILE;
  if (error instanceof Deno.errors.PermissionDenied) return STATUS_CODE.PERMISSION_DENIED;
  return STATUS_CODE.FAILURE;
}
