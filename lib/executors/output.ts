import { concat } from "@std/bytes/concat";

/** Gathers the pieces of one output stream up to a bound. */
export class OutputCollector {
  #chunks: Uint8Array[] = [];
  #lengthBytes = 0;
  #overflowed = false;

  /** `onOverflow` is called once, when the output outgrows `maxBytes`; what came is then dropped. */
  constructor(readonly maxBytes: number, readonly onOverflow: () => void) {}

  add(chunk: Uint8Array): void {
    if (this.#overflowed) return;
    this.#lengthBytes += chunk.length;
    if (this.#lengthBytes > this.maxBytes) {
      this.#overflowed = true;
      this.#chunks = [];
      this.onOverflow();
      return;
    }
    this.#chunks.push(chunk);
  }

  /** All bytes so far, in order. */
  bytes(): Uint8Array {
    return concat(this.#chunks);
  }
}
