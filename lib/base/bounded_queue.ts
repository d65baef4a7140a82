/**
 * What waits for one reader, in the order of its coming, up to a number of items: a reader that is too slow gets
 * what waits and then an error, and costs no more memory than that.
 */
export class BoundedQueue<T> {
  readonly #waiting: T[] = [];
  /** How the queue ends once what waits is read. */
  #end: { error?: unknown } | undefined;
  #wake = () => {};

  /** `overrun` is the error of a reader that has let more than `max` items wait. */
  constructor(private readonly max: number, private readonly overrun: () => Error) {}

  /** Adds an item; behind the end it is dropped. */
  push(item: T): void {
    if (this.#end !== undefined) return;
    if (this.#waiting.length < this.max) this.#waiting.push(item);
    else this.#end = { error: this.overrun() };
    this.#wake();
  }

  /** Ends the queue behind what waits. The first end counts. */
  end(): void {
    this.#end ??= {};
    this.#wake();
  }

  /** As `end`, with an error for the reader. */
  fail(error: unknown): void {
    this.#end ??= { error };
    this.#wake();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T> {
    for (;;) {
      const item = this.#waiting.shift();
      if (item !== undefined) yield item;
      else if (this.#end === undefined) await new Promise<void>((resolve) => this.#wake = resolve);
      else if ("error" in this.#end) throw this.#end.error;
      else return;
    }
  }
}
