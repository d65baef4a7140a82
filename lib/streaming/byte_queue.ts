/** Pieces of one stream between what reads them off a connection and what consumes them, at most some bytes of them. */
export class ByteQueue implements AsyncIterableIterator<Uint8Array> {
  readonly #pieces: Uint8Array[] = [];
  #sizeBytes = 0;
  #end: "open" | "ended" | "discarded" | { error: unknown } = "open";
  /** Settles when something changed for whoever reads, or for whoever waits for room. */
  #forReader: PromiseWithResolvers<void> | undefined;
  #forWriter: PromiseWithResolvers<void> | undefined;

  constructor(private readonly maxBytes: number) {}

  /** Adds a piece, which must not be changed any more. Resolves when there is room for the next. */
  async push(piece: Uint8Array): Promise<void> {
    if (this.#end !== "open" || piece.length === 0) return;
    this.#pieces.push(piece);
    this.#sizeBytes += piece.length;
    this.#forReader?.resolve();
    while (this.#sizeBytes >= this.maxBytes && this.#end === "open") {
      this.#forWriter ??= Promise.withResolvers();
      await this.#forWriter.promise;
    }
  }

  /** Nothing more comes; what is there can still be read. */
  end(): void {
    this.#finish("ended");
  }

  /** Nothing more can be read: the next read rejects with `error`. */
  fail(error: unknown): void {
    if (this.#end === "discarded") return;
    this.#pieces.length = 0;
    this.#finish({ error });
  }

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    for (;;) {
      const piece = this.#pieces.shift();
      if (piece !== undefined) {
        this.#sizeBytes -= piece.length;
        this.#wakeWriter();
        return { done: false, value: piece };
      }
      if (typeof this.#end === "object") throw this.#end.error;
      if (this.#end !== "open") return { done: true, value: undefined };
      this.#forReader = Promise.withResolvers();
      await this.#forReader.promise;
    }
  }

  /** Nobody reads any more: what is there and what comes is dropped. */
  return(): Promise<IteratorResult<Uint8Array, undefined>> {
    this.#pieces.length = 0;
    this.#finish("discarded");
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #finish(end: "ended" | "discarded" | { error: unknown }): void {
    this.#end = end;
    this.#sizeBytes = this.#pieces.reduce((sum, piece) => sum + piece.length, 0);
    this.#forReader?.resolve();
    this.#wakeWriter();
  }

  #wakeWriter(): void {
    this.#forWriter?.resolve();
    this.#forWriter = undefined;
  }
}
