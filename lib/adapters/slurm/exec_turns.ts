import { Slots } from "../../base/slots.ts";

/**
 * Commands in containers of one account at once. Each holds one of the connection's eight channels while it
 * runs, and the other three are left to submitting, watching and stopping.
 */
export const MAX_EXECS_AT_ONCE = 5;
/** Of these, commands without a time limit (hooks), which may run for minutes and must not shut probes out. */
const MAX_UNLIMITED_EXECS_AT_ONCE = 3;

/** Whose turn it is to run a command in a container of one account: first come, first served. */
export class ExecTurns {
  readonly #all = new Slots(MAX_EXECS_AT_ONCE);
  readonly #unlimited = new Slots(MAX_UNLIMITED_EXECS_AT_ONCE);

  /** Rejects with the signal's reason when it aborts before it is their turn. */
  run<T>(limited: boolean, work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    return limited
      ? this.#all.run(work, signal)
      : this.#unlimited.run(() => this.#all.run(work, signal), signal);
  }
}
