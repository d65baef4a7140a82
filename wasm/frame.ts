/**
 * The bytes between TypeScript and the core: a row of values, each a 32-bit little-endian number or a string
 * as its length in bytes (such a number) and its UTF-8 text. `src/frame.rs` is the other side.
 */
import { CriError } from "../lib/base/error.ts";

/** What stands for the length of a string that is absent. */
const ABSENT = 0xffff_ffff;
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Collects a request. */
export class FrameWriter {
  readonly #pieces: Uint8Array[] = [];
  #sizeBytes = 0;

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  #add(piece: Uint8Array): void {
    this.#pieces.push(piece);
    this.#sizeBytes += piece.length;
  }

  number(value: number): this {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, value, true);
    this.#add(bytes);
    return this;
  }

  flag(value: boolean): this {
    return this.number(value ? 1 : 0);
  }

  /** Throws INVALID_ARGUMENT for text that UTF-8 cannot hold: half of a surrogate pair. */
  string(text: string): this {
    if (!text.isWellFormed()) {
      throw new CriError(
        "INVALID_ARGUMENT",
        "Cannot read a text as it must be well-formed Unicode: it holds one half of a surrogate pair",
      );
    }
    const bytes = encoder.encode(text);
    this.number(bytes.length);
    this.#add(bytes);
    return this;
  }

  optional(text: string | undefined): this {
    return text === undefined ? this.number(ABSENT) : this.string(text);
  }

  list<T>(items: readonly T[], write: (item: T) => void): this {
    this.number(items.length);
    items.forEach(write);
    return this;
  }

  /** Puts the row into `target`, which has `sizeBytes` bytes. */
  copyInto(target: Uint8Array): void {
    let offset = 0;
    for (const piece of this.#pieces) {
      target.set(piece, offset);
      offset += piece.length;
    }
  }
}

/** Reads an answer in the order in which the core wrote it. */
export class FrameReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #offset = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  number(): number {
    const value = this.#view.getUint32(this.#offset, true);
    this.#offset += 4;
    return value;
  }

  flag(): boolean {
    return this.number() !== 0;
  }

  optional(): string | undefined {
    const length = this.number();
    if (length === ABSENT) return undefined;
    const text = decoder.decode(this.#bytes.subarray(this.#offset, this.#offset + length));
    this.#offset += length;
    return text;
  }

  string(): string {
    return this.optional() ?? "";
  }

  list<T>(read: () => T): T[] {
    return Array.from({ length: this.number() }, read);
  }
}
