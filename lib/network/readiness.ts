import type { Clock } from "../base/clock.ts";
import { messageOf } from "../base/error.ts";
import type { Chain } from "./chain.ts";
import type { NetworkReadiness } from "./pod_networks.ts";

/** A kubelet that starts asks ten times a second; plugins are asked less often. */
const STANDS_MS = 1_000;

/** Whether pods can be attached to the node's network. */
export class Readiness {
  #asking: Promise<NetworkReadiness> | undefined;
  #askedAtMs = -Infinity;
  /** Whether plugins are being asked: one that hangs takes seconds, and is not asked again meanwhile. */
  #isLooking = false;
  /** The configuration whose plugins are known to speak its version. */
  #verified = "";

  constructor(
    readonly currentChain: () => Promise<Chain>,
    readonly lockPath: string,
    readonly clock: Clock,
  ) {}

  /** Asks, or tells what was found a second ago at most, or is about to be found. */
  async ask(): Promise<NetworkReadiness> {
    const isStale = this.clock.now() - this.#askedAtMs >= STANDS_MS;
    if (this.#asking === undefined || isStale && !this.#isLooking) {
      this.#askedAtMs = this.clock.now();
      this.#isLooking = true;
      this.#asking = this.#look().finally(() => this.#isLooking = false);
    }
    return await this.#asking;
  }

  async #look(): Promise<NetworkReadiness> {
    try {
      const chain = await this.currentChain();
      const network = JSON.stringify(chain.network);
      if (network !== this.#verified) await chain.verify(this.lockPath);
      this.#verified = network;
      await chain.status(this.lockPath);
      return { ready: true, message: "" };
    } catch (error) {
      return { ready: false, message: messageOf(error) };
    }
  }
}
