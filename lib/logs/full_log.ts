import type { Clock } from "../base/clock.ts";
import type { ContainerLog } from "./container_log.ts";
import type { LogStream } from "./turns.ts";

/**
 * How long a full log is waited for when the program has ended. A kubelet looks every ten seconds whether a log is to
 * be rotated (containerLogMonitorInterval), as long as the container runs; without a kubelet nobody may.
 */
export const ROTATION_WAIT_MS = 30_000;

/** What is to be done about a log that takes no more output (`ContainerLog.isFull`), of one container. */
export class FullLog {
  /** Since when it is full, and how much of the output it holds; undefined while it is not. */
  #full: { sinceMs: number; consumedBytes: number } | undefined;
  #leftOutNoted = false;

  /** @param note Writes a line of our own into the log. */
  constructor(
    private readonly log: ContainerLog,
    private readonly clock: Clock,
    private readonly note: (message: string) => Promise<void>,
  ) {}

  /**
   * Says in the log that it is full. True while the rest of an ended program's output waits for the log's rotation;
   * what is left out when nobody rotates it is said there too.
   * @param missingBytes How much of a stream is not in the log; asked when the program has ended.
   */
  async waits(
    hasEnded: boolean,
    missingBytes: (stream: LogStream) => Promise<number>,
  ): Promise<boolean> {
    if (!this.log.isFull) {
      this.#full = undefined;
      return false;
    }
    const consumedBytes = this.log.consumedBytes("stdout") + this.log.consumedBytes("stderr");
    // Much output fills a rotated log before anybody sees it with room.
    if (this.#full?.consumedBytes !== consumedBytes) {
      this.#full = { sinceMs: this.clock.now(), consumedBytes };
      await this.note(
        "the log is full (--max-log-bytes): the output goes on when the log is rotated",
      );
    }
    if (!hasEnded || this.#leftOutNoted) return false;
    const [stdout, stderr] = [await missingBytes("stdout"), await missingBytes("stderr")];
    if (stdout + stderr === 0) return false;
    if (this.clock.now() - this.#full.sinceMs < ROTATION_WAIT_MS) return true;
    this.#leftOutNoted = true;
    await this.note(
      `the log is full and nobody rotates it: ${stdout} bytes of stdout and ${stderr} of stderr are left out`,
    );
    return false;
  }
}
