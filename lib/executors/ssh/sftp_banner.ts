import sftpModule from "ssh2/lib/protocol/SFTP.js";
import { MAX_BANNER_BYTES } from "./shell.ts";

/** ssh2's reader of an sftp channel; its class has no public name. */
interface SftpReader {
  readonly server: boolean;
  push(data: Uint8Array | null): unknown;
}

let isDone = false;
/** Readers whose first packet has come. */
const begun = new WeakSet<SftpReader>();
/** How much of banners came to a reader whose first packet has not. */
const skippedBytes = new WeakMap<SftpReader, number>();

/**
 * Lets ssh2 pass over what comes before the first packet: sshd starts sftp-server by the login shell, and what that
 * prints on its way would be taken for the length of a packet. ssh2 has no place for this but the reader itself. Once
 * is enough.
 */
export function skipSftpBanners(): void {
  if (isDone) return;
  isDone = true;
  const { prototype } = sftpModule.SFTP as { prototype: SftpReader };
  const push = prototype.push;
  prototype.push = function (data) {
    if (data === null || this.server || begun.has(this)) return push.call(this, data);
    const length = bannerLength(data);
    const skipped = (skippedBytes.get(this) ?? 0) + length;
    skippedBytes.set(this, skipped);
    if (length < data.length || skipped > MAX_BANNER_BYTES) begun.add(this);
    // What is too long for a banner goes to ssh2, which says what is wrong with it.
    return skipped > MAX_BANNER_BYTES
      ? push.call(this, data)
      : push.call(this, data.subarray(length));
  };
}

/** How many bytes stand before the first NUL: every packet begins with one, its length being less than 16 MiB. */
export function bannerLength(bytes: Uint8Array): number {
  const at = bytes.indexOf(0);
  return at === -1 ? bytes.length : at;
}
