import { Buffer } from "node:buffer";
// @ts-types="@types/ssh2"
import { type Attributes, type SFTPWrapper, utils } from "ssh2";

const { STATUS_CODE, OPEN_MODE } = utils.sftp;

/** What becomes of a request: it is served, never answered, or it closes the channel. */
export type SftpFault = (request: string) => "serve" | "stall" | "close";

/**
 * Serves this machine's files, for tests. It offers no extensions and small packets only, so a client must
 * do without posix-rename and gets large transfers in parts.
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
  on("OPEN", (requestId, path: string, flags: number, attributes: { mode?: number }) => {
    const writable = (flags & OPEN_MODE.WRITE) !== 0;
    const file = Deno.openSync(path, {
      read: !writable,
      write: writable,
      createNew: (flags & OPEN_MODE.EXCL) !== 0,
      ...(writable ? { mode: attributes.mode ?? 0o644 } : {}),
    });
    const handle = String(++lastHandle);
    files.set(handle, file);
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
  on("WRITE", (requestId, handle: Buffer, offset: number, data: Buffer) => {
    const file = fileOf(handle);
    file.seekSync(offset, Deno.SeekMode.Start);
    for (let bytes: Uint8Array = data; bytes.length > 0;) {
      bytes = bytes.subarray(file.writeSync(bytes));
    }
    sftp.status(requestId, STATUS_CODE.OK);
  });
  on("FSETSTAT", (requestId) => sftp.status(requestId, STATUS_CODE.OK));
  on("CLOSE", (requestId, handle: Buffer) => {
    fileOf(handle).close();
    files.delete(handle.toString());
    sftp.status(requestId, STATUS_CODE.OK);
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
  on("RENAME", (requestId, from: string, to: string) => {
    try {
      Deno.lstatSync(to);
      sftp.status(requestId, STATUS_CODE.FAILURE);
    } catch {
      Deno.renameSync(from, to);
      sftp.status(requestId, STATUS_CODE.OK);
    }
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
