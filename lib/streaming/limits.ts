import { type Clock, systemClock } from "../base/clock.ts";

/** How long a client may keep a session waiting. */
export interface SessionLimits {
  /** Without a byte in either direction. */
  idleMs: number;
  /** From the upgrade of the connection until all streams are there; for a port, from the first to the second. */
  creationMs: number;
}

/** As containerd's and CRI-O's defaults (streamIdleTimeout, streamCreationTimeout). */
export const DEFAULT_LIMITS: SessionLimits = { idleMs: 4 * 3600_000, creationMs: 30_000 };

/** Calls `onIdle` once, when it was not touched for long enough. */
export class IdleTimer {
  #touched = false;
  #timer: ReturnType<typeof setTimeout>;

  constructor(private readonly idleMs: number, private readonly onIdle: () => void) {
    this.#timer = setTimeout(() => this.#look(), idleMs);
  }

  /** Cheap, for every piece: how late it is noticed, up to twice the time, does not matter. */
  touch(): void {
    this.#touched = true;
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  #look(): void {
    if (!this.#touched) return this.onIdle();
    this.#touched = false;
    this.#timer = setTimeout(() => this.#look(), this.idleMs);
  }
}

/** Whether `promise` resolves within `ms` and before `signal` aborts. */
export async function inTime(
  promise: Promise<void>,
  ms: number,
  signal: AbortSignal,
  clock: Clock = systemClock,
): Promise<boolean> {
  const over = new AbortController();
  const late = clock.sleep(ms, AbortSignal.any([signal, over.signal])).then(
    () => false,
    () => false,
  );
  const inTime = await Promise.race([promise.then(() => true), late]);
  over.abort();
  return inTime;
}
