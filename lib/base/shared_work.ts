import type { Clock } from "./clock.ts";

/** Work that many ask for, whose result serves all who ask while it is done or a moment later. */
export class SharedWork {
  #doneAtMs = -Infinity;
  #running: Promise<void> | undefined;

  /** `freshMs`: how long what was done serves. */
  constructor(private readonly clock: Clock, private readonly freshMs: number) {}

  /** Resolves when the work was done. What fails is done again for the next who asks. @throws what `work` throws. */
  async run(work: () => Promise<void>): Promise<void> {
    if (this.#running !== undefined) return await this.#running;
    if (this.clock.now() - this.#doneAtMs < this.freshMs) return;
    this.#running = work();
    try {
      await this.#running;
      this.#doneAtMs = this.clock.now();
    } finally {
      this.#running = undefined;
    }
  }
}
