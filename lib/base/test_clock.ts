/** A clock that stands still until a test moves it. */
import type { Clock } from "./clock.ts";

interface Sleeper {
  atMs: number;
  wake: () => void;
}

export class TestClock implements Clock {
  readonly #sleepers = new Set<Sleeper>();
  readonly #watchers = new Set<() => void>();
  #nowMs: number;

  constructor(nowMs = Date.UTC(2026, 0, 2)) {
    this.#nowMs = nowMs;
  }

  now(): number {
    return this.#nowMs;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const sleeper = {
        atMs: this.#nowMs + ms,
        wake: () => {
          this.#sleepers.delete(sleeper);
          signal?.removeEventListener("abort", onAbort);
          resolve();
        },
      };
      const onAbort = () => {
        this.#sleepers.delete(sleeper);
        reject(signal?.reason);
      };
      signal?.addEventListener("abort", onAbort, { once: true });
      this.#sleepers.add(sleeper);
      for (const look of [...this.#watchers]) look();
    });
  }

  /** Wakes whoever sleeps no longer than `ms` from now. */
  advance(ms: number): void {
    this.#nowMs += ms;
    for (const sleeper of [...this.#sleepers]) if (sleeper.atMs <= this.#nowMs) sleeper.wake();
  }

  /** Resolves when somebody sleeps for exactly `ms` from now. */
  sleeping(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const look = () => {
        if (![...this.#sleepers].some(({ atMs }) => atMs === this.#nowMs + ms)) return;
        this.#watchers.delete(look);
        resolve();
      };
      this.#watchers.add(look);
      look();
    });
  }
}
