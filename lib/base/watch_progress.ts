import type { Clock } from "./clock.ts";

/** How something that may stall is watched. */
export interface ProgressWatch {
  clock: Clock;
  /** The caller's. */
  signal: AbortSignal;
  intervalMs: number;
  /** Looks in a row that see no change until it counts as stalled. */
  maxIdleLooks: number;
  /** Gives another value as long as there is progress; a look that fails has seen none. */
  look: () => Promise<unknown>;
  /** What `work` then fails with. */
  stalled: () => Error;
}

/**
 * Runs `work` while it is looked at. Its signal aborts with the caller's, and when it stalls.
 * @throws Error of `stalled`; whatever `work` throws.
 */
export async function watchProgress<T>(
  { clock, signal, intervalMs, maxIdleLooks, look, stalled }: ProgressWatch,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const stall = new AbortController();
  const ended = new AbortController();
  const watching = watch().catch(() => {});
  try {
    return await work(AbortSignal.any([signal, stall.signal]));
  } catch (error) {
    throw stall.signal.aborted ? stall.signal.reason : error;
  } finally {
    ended.abort();
    await watching;
  }

  async function watch(): Promise<void> {
    let known: unknown;
    for (let idle = 0; idle < maxIdleLooks;) {
      await clock.sleep(intervalMs, ended.signal);
      const seen = await look().catch(() => known);
      idle = seen === known ? idle + 1 : 0;
      known = seen;
    }
    stall.abort(stalled());
  }
}
