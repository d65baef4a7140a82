import type { TerminalSize } from "./process.ts";

/** More than a size takes; a client that sends more between two sizes sends something else. */
const MAX_PENDING_CHARACTERS = 1024;
/** The kernel keeps 16 bits of each (struct winsize, ioctl_tty(2)). */
const MAX_CHARACTERS = 65_535;

/**
 * The sizes of a client's terminal, as it sends them: JSON objects `{"Width":80,"Height":24}` one after the other
 * (remotecommand.TerminalSize of client-go), in pieces of any size. Whoever reads gets the newest.
 */
export class TerminalSizes implements AsyncIterableIterator<TerminalSize> {
  #pending = "";
  #newest: TerminalSize | undefined;
  #ended = false;
  #changed: PromiseWithResolvers<void> | undefined;
  readonly #decoder = new TextDecoder();

  add(piece: Uint8Array): void {
    this.#pending += this.#decoder.decode(piece, { stream: true });
    for (let end; (end = this.#pending.indexOf("}")) !== -1;) {
      this.#newest = parseSize(this.#pending.slice(0, end + 1)) ?? this.#newest;
      this.#pending = this.#pending.slice(end + 1);
    }
    this.#pending = this.#pending.slice(-MAX_PENDING_CHARACTERS);
    this.#changed?.resolve();
  }

  end(): void {
    this.#ended = true;
    this.#changed?.resolve();
  }

  async next(): Promise<IteratorResult<TerminalSize, undefined>> {
    while (this.#newest === undefined && !this.#ended) {
      this.#changed = Promise.withResolvers();
      await this.#changed.promise;
    }
    const value = this.#newest;
    this.#newest = undefined;
    return value === undefined ? { done: true, value } : { done: false, value };
  }

  return(): Promise<IteratorResult<TerminalSize, undefined>> {
    this.#newest = undefined;
    this.end();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

/** Undefined for what is no size; a terminal without one, as of an editor's console, says 0 and means none. */
function parseSize(text: string): TerminalSize | undefined {
  try {
    const { Width: width, Height: height } = JSON.parse(text);
    return [width, height].every((n) => Number.isInteger(n) && n > 0 && n <= MAX_CHARACTERS)
      ? { width, height }
      : undefined;
  } catch {
    return undefined;
  }
}
