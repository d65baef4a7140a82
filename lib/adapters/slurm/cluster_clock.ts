import type { Clock } from "../../base/clock.ts";
import type { ClusterSession } from "../../executors/ssh/session.ts";

/** date(1) without more than POSIX has: whole seconds. */
const RESOLUTION_MS = 1_000;
/** Clocks that differ by less are taken for the same: what ssh and the login host's load add is not known exactly. */
const TOLERANCE_MS = 2_000;
/** What took longer to answer tells nothing of a clock. */
const MAX_ANSWER_MS = 5_000;

/** Prints the clock of the login host, in seconds since the Unix epoch. */
export const CLOCK_SCRIPT = "date -u +%s";

/**
 * How far the cluster's clock is ahead of this node's, so that what jobs tell of times can be told in the node's, by
 * which Kubernetes goes. The hosts of a cluster have the same time, as munge(7) demands.
 */
export class ClusterClock {
  #aheadMs = 0;
  #wasHeard = false;

  constructor(private readonly session: ClusterSession, private readonly clock: Clock) {}

  /** Asks the cluster, unless it has said something before. When it does not answer, that comes with squeue later. */
  async learn(): Promise<void> {
    if (this.#wasHeard) return;
    const askedMs = this.clock.now();
    const answer = await this.session.run(CLOCK_SCRIPT, { timeoutMs: MAX_ANSWER_MS }).catch(() =>
      undefined
    );
    if (answer !== undefined) this.hear(new TextDecoder().decode(answer.stdout), askedMs);
  }

  /** Takes in the first line of what a script printed that began with CLOCK_SCRIPT and was handed over at `askedMs`. */
  hear(output: string, askedMs: number): void {
    this.#wasHeard = true;
    const [seconds = ""] = output.split("\n", 1);
    const answeredMs = this.clock.now();
    const tookMs = answeredMs - askedMs;
    // Less than nothing: our own clock was set meanwhile.
    if (!/^\d{1,12}$/.test(seconds) || tookMs > MAX_ANSWER_MS || tookMs < 0) return;
    const toldMs = Number(seconds) * 1_000;
    const least = toldMs - answeredMs;
    const most = toldMs + RESOLUTION_MS - askedMs;
    // What is possible stands, so that times do not go to and fro.
    if (least - TOLERANCE_MS <= this.#aheadMs && this.#aheadMs <= most + TOLERANCE_MS) return;
    this.#aheadMs = (least + most) / 2;
  }

  /** A moment of the cluster's clock by this node's. */
  ours(clusterMs: number): number {
    return clusterMs - this.#aheadMs;
  }
}
