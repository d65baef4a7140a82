import { CriError } from "../base/error.ts";

/** Events that wait for a client to read them; about 2 KiB each. A kubelet's own queue is a tenth of it. */
const MAX_WAITING = 10_000;

/** Events from several sources, in the order of their coming, for one reader. */
export class EventQueue {
  readonly #events: Uint8Array[] = [];
  #failure: { error: unknown } | undefined;
  #wake: (() => void) | undefined;

  /** Adds an event; fails the queue when too many wait. */
  push(event: Uint8Array): void {
    if (this.#events.length < MAX_WAITING) this.#events.push(event);
    else {
      this.fail(
        new CriError(
          "RESOURCE_EXHAUSTED",
          `The client left ${MAX_WAITING} events unread; list the containers and subscribe again.`,
        ),
      );
    }
    this.#wake?.();
  }

  /** Ends the queue for its reader, who gets the first failure once the events before it are read. */
  fail(error: unknown): void {
    this.#failure ??= { error };
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    for (;;) {
      const event = this.#events.shift();
      if (event !== undefined) yield event;
      else if (this.#failure !== undefined) throw this.#failure.error;
      else {
        await new Promise<void>((resolve) => this.#wake = resolve);
        this.#wake = undefined;
      }
    }
  }
}
