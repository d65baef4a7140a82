import type { Clock } from "../base/clock.ts";
import { messageOf } from "../base/error.ts";
import type { Logger } from "../base/log.ts";

/** How often it is tried again to write a log: a full disk rarely has room for each line at once. */
export const UNWRITTEN_PAUSE_MS = 2_000;

/**
 * What is known of one container's log that cannot be written, as on a full disk; said once, and once when it is over.
 */
export class UnwrittenLog {
  /** When it was tried last; undefined while it can be written. */
  #triedAtMs: number | undefined;
  #isLossSaid = false;
  readonly #logger: Logger;

  constructor(
    containerId: string,
    path: string,
    logger: Logger,
    private readonly clock: Clock,
  ) {
    this.#logger = logger.with({ container: containerId, path });
  }

  /** Whether the last try failed. */
  get isUnwritten(): boolean {
    return this.#triedAtMs !== undefined;
  }

  /** Whether that was so lately that it need not be tried again yet. */
  get rests(): boolean {
    const sinceMs = this.clock.now() - (this.#triedAtMs ?? -Infinity);
    // A clock that was set back must not stop the tries.
    return sinceMs >= 0 && sinceMs < UNWRITTEN_PAUSE_MS;
  }

  failed(error: unknown): void {
    if (!this.isUnwritten) {
      this.#logger.warning(
        "Cannot copy a container's output into its log; it is kept and tried again",
        {
          error: messageOf(error),
        },
      );
    }
    this.#triedAtMs = this.clock.now();
  }

  written(): void {
    if (!this.isUnwritten) return;
    this.#triedAtMs = undefined;
    this.#logger.warning(
      "A container's output is copied into its log again, and nothing is missing",
    );
  }

  /** Nobody will try again. */
  lost(stdoutBytes: number, stderrBytes: number): void {
    if (this.#isLossSaid) return;
    this.#isLossSaid = true;
    this.#logger.warning("Output is lost that a container's log could not take", {
      stdoutBytes,
      stderrBytes,
    });
  }
}
