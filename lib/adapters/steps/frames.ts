import { concat } from "@std/bytes/concat";
import { CriError } from "../../base/error.ts";

/**
 * Bound on stdout and stderr together. The kubelet takes answers of 16 MiB (cri-client, utils.go); what is
 * beyond is dropped, as containerd and CRI-O do, and the margin is for the rest of the message.
 */
export const MAX_EXEC_OUTPUT_BYTES = 16 * 1024 * 1024 - 64 * 1024;

/** Why a command does not run. */
export type RefusalKind = "starting" | "ended" | "setuid" | "command" | "node";

/** What comes back, in this order: `started` or `refused`, what happens meanwhile, and one of the last three. */
export type Frame =
  | { kind: "started" }
  | { kind: "refused"; why: RefusalKind; text: string }
  | { kind: "stdout" | "stderr"; bytes: Uint8Array }
  /** So many more bytes of input were taken. */
  | { kind: "taken"; bytes: number }
  /** The job's status files, empty where there is none. */
  | { kind: "status"; start: Uint8Array; exit: Uint8Array }
  /** No more output comes, but input is still taken. */
  | { kind: "outputEnded" }
  | { kind: "exited"; code: number }
  | { kind: "timedOut" }
  | { kind: "abandoned" };

/** Letter and length. */
const HEADER_BYTES = 5;
/** A newline stands behind each frame of the program's. */
const NEWLINE = 10;
/** The program sends pieces of 64 KiB; a longer one is not its own. */
const MAX_FRAME_BYTES = 1024 * 1024;
/** A site's task prolog may print; more before the first frame would be a loop. */
const MAX_NOISE_BYTES = 1024 * 1024;

/** Of one word with the NUL at its end (MAX_ARG_STRLEN, execve(2)). */
const MAX_WORD_BYTES = 128 * 1024;

/**
 * What keeps the kernel from passing a word to a program, as the end of a sentence; undefined for words that it takes
 * (execve(2)).
 */
export function whyNoWord(word: string): string | undefined {
  if (word.includes("\0")) return "must not hold a null byte";
  // Each character has three bytes at most.
  if (word.length * 3 < MAX_WORD_BYTES) return undefined;
  const { length } = new TextEncoder().encode(word);
  if (length < MAX_WORD_BYTES) return undefined;
  return `must have fewer than ${MAX_WORD_BYTES} bytes, and has ${length}`;
}

/** @throws CriError INVALID_ARGUMENT when the kernel could not pass a word of the command. */
export function checkCommand(argv: readonly string[]): void {
  const why = argv.map(whyNoWord).find((why) => why !== undefined);
  if (why === undefined) return;
  throw new CriError("INVALID_ARGUMENT", `Cannot run a command: a word of it ${why}.`);
}

/** A request as `step.pl` reads it. */
export function encodeFields(fields: readonly (string | number)[]): Uint8Array {
  return withLength(fields.map((field) => `${field}\0`).join(""));
}

/** A frame for the program's stdin, as `step.pl` tells them. */
export function inputFrame(letter: "i" | "e" | "w", bytes: Uint8Array): Uint8Array {
  const header = new Uint8Array(HEADER_BYTES);
  header[0] = letter.charCodeAt(0);
  new DataView(header.buffer).setUint32(1, bytes.length);
  return concat([header, bytes]);
}

/** The parts as one program for `READ_PROGRAM`, without the lines that are comments: a third less to send. */
export function programOf(...parts: string[]): Uint8Array {
  return withLength(parts.join("").replaceAll(/^ *#.*\n/gm, ""));
}

/** The text's length in bytes, a newline, and the text. */
function withLength(text: string): Uint8Array {
  const bytes = new TextEncoder().encode(text);
  const length = new TextEncoder().encode(`${bytes.length}\n`);
  return concat([length, bytes]);
}

/** Takes the program's stdout in pieces of any size and gives the frames in it. */
export class FrameReader {
  #pending: Uint8Array = new Uint8Array();
  #begun = false;
  readonly #nonce: Uint8Array;

  constructor(nonce: string, private readonly onFrame: (frame: Frame) => void) {
    this.#nonce = new TextEncoder().encode(nonce);
  }

  /** @throws CriError INTERNAL when the bytes are not the program's. */
  add(piece: Uint8Array): void {
    this.#pending = this.#pending.length === 0 ? piece : concat([this.#pending, piece]);
    if (!this.#begun && !this.#skipNoise()) return;
    let at = 0;
    while (this.#pending.length - at >= HEADER_BYTES) {
      const length = new DataView(this.#pending.buffer, this.#pending.byteOffset).getUint32(at + 1);
      if (length > MAX_FRAME_BYTES) throw garbled();
      const end = at + HEADER_BYTES + length;
      if (this.#pending.length <= end) break;
      if (this.#pending[end] !== NEWLINE) throw garbled();
      const letter = String.fromCharCode(this.#pending[at] ?? 0);
      this.onFrame(parseFrame(letter, this.#pending.slice(at + HEADER_BYTES, end)));
      at = end + 1;
    }
    this.#pending = this.#pending.slice(at);
  }

  /** Whether the nonce came; what stands before it is not the program's. */
  #skipNoise(): boolean {
    const text = new TextDecoder("latin1").decode(this.#pending);
    const at = text.indexOf(new TextDecoder("latin1").decode(this.#nonce));
    if (at === -1) {
      if (this.#pending.length > MAX_NOISE_BYTES) throw garbled();
      return false;
    }
    this.#begun = true;
    this.#pending = this.#pending.slice(at + this.#nonce.length);
    return true;
  }
}

const REFUSAL_KINDS: ReadonlySet<string> = new Set<RefusalKind>([
  "starting",
  "ended",
  "setuid",
  "command",
  "node",
]);

function parseFrame(letter: string, bytes: Uint8Array): Frame {
  const text = () => new TextDecoder().decode(bytes);
  switch (letter) {
    case "s":
      return { kind: "started" };
    case "o":
      return { kind: "stdout", bytes };
    case "e":
      return { kind: "stderr", bytes };
    case "x":
      if (!/^\d{1,3}$/.test(text())) throw garbled();
      return { kind: "exited", code: Number(text()) };
    case "k":
      if (!/^\d{1,9}$/.test(text())) throw garbled();
      return { kind: "taken", bytes: Number(text()) };
    case "b": {
      const end = bytes.indexOf(0);
      if (end === -1) throw garbled();
      return { kind: "status", start: bytes.slice(0, end), exit: bytes.slice(end + 1) };
    }
    case "z":
      return { kind: "outputEnded" };
    case "t":
      return { kind: "timedOut" };
    case "c":
      return { kind: "abandoned" };
    case "f": {
      const [why = "", ...words] = text().split(" ");
      if (!REFUSAL_KINDS.has(why)) throw garbled();
      return { kind: "refused", why: why as RefusalKind, text: words.join(" ") };
    }
    default:
      throw garbled();
  }
}

function garbled(): CriError {
  return new CriError(
    "INTERNAL",
    "Cannot read what a command in a container answered: something on the node writes into its stdout.",
  );
}
