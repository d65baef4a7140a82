import { CriError } from "../../base/error.ts";

/**
 * Commands that run at once on one connection. sshd allows 10 sessions (MaxSessions, sshd_config(5)):
 * one is the sftp channel, and one is kept to end a command that ran over its time.
 */
export const MAX_EXEC_CHANNELS = 8;

/** Commands that wait; at 2 ms each, a full queue is worth 2 seconds, and beyond that something is wrong. */
export const MAX_WAITING_COMMANDS = 1024;

/** Granted places in a row without a refusal after which one more is tried again. */
const RAISE_AFTER_GRANTS = 50;

/**
 * How many exec channels may be open on a connection: first come, first served. The bound falls when the
 * server refuses one and recovers by and by, because a refusal may be the server's standing limit
 * or only a channel it has not cleared away yet.
 */
export class ChannelBudget {
  #inUse = 0;
  #grantsInARow = 0;
  readonly #waiting: { grant: () => void; fail: (error: CriError) => void }[] = [];
  #closedBy: CriError | undefined;
  #limit: number;

  constructor(
    private readonly name: string,
    private readonly maxChannels = MAX_EXEC_CHANNELS,
    private readonly maxWaiting = MAX_WAITING_COMMANDS,
  ) {
    this.#limit = maxChannels;
  }

  /** The present bound, 1 to `maxChannels`. */
  get limit(): number {
    return this.#limit;
  }

  get inUse(): number {
    return this.#inUse;
  }

  /**
   * Resolves with a place, which must be given back by `release`.
   * @throws CriError RESOURCE_EXHAUSTED when too many wait already, the error given to `close`, or the
   * signal's reason.
   */
  acquire(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason);
      if (this.#closedBy !== undefined) return reject(this.#closedBy);
      if (this.#waiting.length >= this.maxWaiting) {
        return reject(
          new CriError(
            "RESOURCE_EXHAUSTED",
            `Cannot run a command on ${this.name} as at most ${this.maxWaiting} may wait for a channel: all places are taken, try again later`,
          ),
        );
      }
      const entry = {
        grant: () => {
          signal.removeEventListener("abort", onAbort);
          resolve();
        },
        fail: (error: unknown) => {
          signal.removeEventListener("abort", onAbort);
          reject(error);
        },
      };
      const onAbort = () => {
        this.#waiting.splice(this.#waiting.indexOf(entry), 1);
        entry.fail(signal.reason);
      };
      signal.addEventListener("abort", onAbort, { once: true });
      this.#waiting.push(entry);
      this.#grant();
    });
  }

  release(): void {
    this.#inUse--;
    this.#grant();
  }

  /** Tells that the server refused a channel while those in use were open. */
  refused(): void {
    this.#grantsInARow = 0;
    this.#limit = Math.max(1, Math.min(this.#limit, this.#inUse) - 1);
  }

  /** Everyone who waits, now or later, gets `error`. */
  close(error: CriError): void {
    this.#closedBy = error;
    for (const entry of this.#waiting.splice(0)) entry.fail(error);
  }

  #grant(): void {
    while (this.#inUse < this.#limit) {
      const next = this.#waiting.shift();
      if (next === undefined) return;
      this.#inUse++;
      if (++this.#grantsInARow >= RAISE_AFTER_GRANTS && this.#limit < this.maxChannels) {
        this.#grantsInARow = 0;
        this.#limit++;
      }
      next.grant();
    }
  }
}
