import { randomBytes } from "node:crypto";
import { CriError } from "../../base/error.ts";

/**
 * The command line that reaches the login shell, for every script but those that a file is sent to. It means the same
 * in bash, dash, zsh, tcsh and fish; the script comes as one line of ASCII on stdin, so that no byte of it is in argv
 * or parsed by the login shell. `read` fails on a line that was cut off, and then nothing of it runs. No program is
 * started for it, which a probe would wait for.
 */
export const COMMAND_LINE = `exec /bin/sh -c 'IFS= read -r s && eval "$(printf %b "$s")"'`;

/**
 * A command line that means the same in those shells, for a script that may be in argv; its stdin is all the script's.
 * It goes as base64, which no shell takes for anything else.
 */
export function commandLineOf({ bytes }: WrappedScript): string {
  return `exec /bin/sh -c 'eval "$(printf %s "$1" | base64 -d)"' sh ${bytes.toBase64()}`;
}

/** sh reads the script's line byte by byte (1 MiB takes about a second); data belongs into stdin. */
export const MAX_SCRIPT_BYTES = 1024 * 1024;

/** What login scripts may print before our command starts; more would be a loop. */
export const MAX_BANNER_BYTES = 1024 * 1024;

/** What goes to the login host's stdin before the caller's data, and how its answer begins. */
export interface WrappedScript {
  /** What is to run. */
  bytes: Uint8Array<ArrayBuffer>;
  /** The same as one line. */
  stdinLine: Uint8Array;
  /** Stands on stdout, with the process id behind it, and on stderr, before the script's own output. */
  marker: string;
}

/**
 * Wraps a POSIX sh script.
 * @throws CriError INVALID_ARGUMENT when it holds a NUL character, which no shell can, or is too long.
 */
export function wrapScript(script: string): WrappedScript {
  if (script.includes("\0")) {
    throw new CriError(
      "INVALID_ARGUMENT",
      "Cannot run a script as it must not hold NUL characters",
    );
  }
  const marker = `multicri-${randomBytes(16).toString("hex")}`;
  // $$ is the session's process group as well: sshd makes one for each command, and the login shell
  // is replaced by ours.
  // When nobody listens any more, the script must not begin.
  const prologue =
    `unset s; printf '%s %s\\n' ${marker} $$ || exit; printf '%s\\n' ${marker} >&2\n`;
  const bytes = new TextEncoder().encode(prologue + script);
  if (bytes.length > MAX_SCRIPT_BYTES) {
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot run a script as it must be at most ${MAX_SCRIPT_BYTES} bytes: it has ${bytes.length}`,
    );
  }
  return { bytes, stdinLine: new TextEncoder().encode(asOneLine(bytes) + "\n"), marker };
}

/** Printable ASCII of which printf's %b (printf(1p)) makes the bytes again. */
function asOneLine(bytes: Uint8Array): string {
  const parts = Array.from(bytes, (byte) => {
    const plain = byte >= 0x20 && byte < 0x7f && byte !== BACKSLASH;
    return plain ? String.fromCharCode(byte) : `\\0${byte.toString(8).padStart(3, "0")}`;
  });
  return parts.join("");
}

const BACKSLASH = 0x5c;

/** Drops what comes before the marker's line and passes on, byte for byte, what comes after it. */
export class MarkerFilter {
  /** What came so far, while the marker's line has not been seen as a whole. */
  #pending: Uint8Array | undefined = new Uint8Array();
  #rest = "";
  readonly #found = Promise.withResolvers<void>();
  readonly #marker: Uint8Array;

  /** `onTooLong` is called when MAX_BANNER_BYTES came without a marker. */
  constructor(
    marker: string,
    private readonly onOutput: (chunk: Uint8Array) => void,
    private readonly onTooLong: () => void,
  ) {
    this.#marker = new TextEncoder().encode(marker);
  }

  /** Whether the script has begun. */
  get seen(): boolean {
    return this.#pending === undefined;
  }

  /** Resolves when the script has begun. */
  get found(): Promise<void> {
    return this.#found.promise;
  }

  /** What stood behind the marker on its line. */
  get rest(): string {
    return this.#rest;
  }

  /** What came instead of a marker, for an error message. */
  get banner(): string {
    return new TextDecoder().decode(this.#pending).trim();
  }

  add(chunk: Uint8Array): void {
    if (this.#pending === undefined) return this.onOutput(chunk);
    const bytes = concat(this.#pending, chunk);
    // A marker may have begun in the piece before.
    const searchFrom = Math.max(0, this.#pending.length - this.#marker.length - MAX_REST_BYTES);
    const start = indexOf(bytes, this.#marker, searchFrom);
    const end = start === -1 ? -1 : bytes.indexOf(NEWLINE, start);
    if (end === -1) {
      this.#pending = bytes;
      if (bytes.length > MAX_BANNER_BYTES) {
        this.#pending = bytes.slice(-MAX_REST_BYTES);
        this.onTooLong();
      }
      return;
    }
    this.#rest = new TextDecoder().decode(bytes.subarray(start + this.#marker.length, end)).trim();
    this.#pending = undefined;
    this.#found.resolve();
    if (end + 1 < bytes.length) this.onOutput(bytes.subarray(end + 1));
  }
}

const NEWLINE = 10;

/** More than a process id and a blank take. */
const MAX_REST_BYTES = 64;

function concat(a: Uint8Array, b: Uint8Array): Uint8Array {
  const all = new Uint8Array(a.length + b.length);
  all.set(a);
  all.set(b, a.length);
  return all;
}

function indexOf(haystack: Uint8Array, needle: Uint8Array, from: number): number {
  const last = haystack.length - needle.length;
  for (let at = haystack.indexOf(needle[0] ?? 0, from); at !== -1 && at <= last;) {
    if (needle.every((byte, index) => haystack[at + index] === byte)) return at;
    at = haystack.indexOf(needle[0] ?? 0, at + 1);
  }
  return -1;
}
