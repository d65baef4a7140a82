import { CriError } from "../../base/error.ts";

/** Ends what takes pieces from a source when it has taken none for too long. */
export class IdleLimit implements Disposable {
  readonly #stalled = new AbortController();
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** `message` is that of the CriError UNAVAILABLE that the signal's reason is. */
  constructor(private readonly limitMs: number, private readonly message: string) {}

  /** Aborts when a piece, or the end of whoever took the last one, does not come in time. */
  get signal(): AbortSignal {
    return this.#stalled.signal;
  }

  /** Yields what `source` does. */
  async *watch<T>(source: AsyncIterable<T>): AsyncGenerator<T> {
    for await (const piece of source) {
      this.#startAgain();
      yield piece;
    }
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }

  #startAgain(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(
      () => this.#stalled.abort(new CriError("UNAVAILABLE", this.message)),
      this.limitMs,
    );
  }
}
