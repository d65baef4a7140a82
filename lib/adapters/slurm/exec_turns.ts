import { Slots } from "../../base/slots.ts";
import { MAX_STREAMS } from "./stream_lines.ts";

/** Commands of probes and hooks of one account at once. */
export const MAX_EXECS_AT_ONCE = MAX_STREAMS.command;
/** Of these, commands without a time limit (hooks), which may run for minutes and must not shut probes out. */
const MAX_UNLIMITED_EXECS_AT_ONCE = 4;

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
