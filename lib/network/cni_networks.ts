import { CriError, messageOf } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import { Slots } from "../base/slots.ts";
import type { PodSandboxConfig } from "../cri/api.generated.ts";
import { Attachments, type NetworkPlace } from "./attachments.ts";
import { foreignAttachments } from "./foreign_attachments.ts";
import { parsePodCidrs } from "./pod_arguments.ts";
import type { NetworkReadiness, PodNetwork, PodNetworks, WantedSandboxes } from "./pod_networks.ts";
import { Readiness } from "./readiness.ts";

/** The kubelet waits for the socket meanwhile, and calls its node not ready after 40 s. */
const RECOVERY_PATIENCE_MS = 10_000;

/** How long what could not be removed, or made anew, is let alone. */
const RETRY_MS = 60_000;

/**
 * Pods that are attached at once, and that are recovered at once: each costs some processes, and iptables serialises
 * them anyway. Those that clients detach are not counted: a plugin that hangs would let no other pod come or go.
 */
const MAX_AT_ONCE = 8;

/** Commands that are for no sandbox. */
const QUESTIONS = "questions";

/** Pod networks by CNI plugins. */
export class CniNetworks implements PodNetworks {
  readonly #attachments: Attachments;
  readonly #readiness: Readiness;
  readonly #attaching = new Slots(MAX_AT_ONCE);
  readonly #recoveries = new Slots(MAX_AT_ONCE);
  readonly #closing = new AbortController();
  /** Sandboxes with something that is to be removed or made anew. */
  readonly #unfinished = new Set<string>();
  #wanted: WantedSandboxes = () => undefined;
  #retrying: Promise<void> | undefined;
  #recovering: Promise<void> = Promise.resolve();

  constructor(readonly place: NetworkPlace, readonly log: Logger) {
    this.#attachments = new Attachments(place);
    const lockPath = this.#attachments.lockPath(QUESTIONS);
    this.#readiness = new Readiness(() => this.#attachments.currentChain(), lockPath, place.clock);
  }

  async attach(
    sandboxId: string,
    config: PodSandboxConfig,
    signal: AbortSignal,
  ): Promise<PodNetwork> {
    const add = () => this.#attachments.add(sandboxId, config, signal);
    return await this.#attachments.alone(sandboxId, async () => {
      try {
        return await this.#attaching.run(add, signal);
      } catch (error) {
        await this.#attachments.remove(sandboxId).catch((why) => this.#tryLater(sandboxId, why));
        throw error;
      }
    });
  }

  of(sandboxId: string): PodNetwork | undefined {
    return this.#attachments.of(sandboxId);
  }

  async detach(sandboxId: string): Promise<void> {
    await this.#attachments.alone(sandboxId, () => this.#attachments.remove(sandboxId));
    this.#unfinished.delete(sandboxId);
  }

  async giveUp(sandboxId: string): Promise<void> {
    await this.detach(sandboxId).catch((why) => this.#tryLater(sandboxId, why));
  }

  async readiness(): Promise<NetworkReadiness> {
    return await this.#readiness.ask();
  }

  usePodCidr(podCidr: string): void {
    const value = parsePodCidrs(podCidr).join(",");
    if (value !== "") this.place.store.nodeSettings.put({ id: "podCidr", value });
  }

  async recover(wanted: WantedSandboxes): Promise<void> {
    this.#wanted = wanted;
    const ids = this.place.store.networkAttachments.all().map(({ id }) => id);
    const [done, tooLate] = [new AbortController(), new AbortController()];
    const late = this.place.clock.sleep(RECOVERY_PATIENCE_MS, done.signal)
      .then(() => tooLate.abort(new CriError("DEADLINE_EXCEEDED", "Pods may come now.")), () => {});
    this.#recovering = Promise.all(
      ids.map((id) => this.#recoveries.run(() => this.#recoverOne(id))),
    )
      // No pod may be attached or detached meanwhile (SPEC.md, section 3), and later some will be.
      .then(() => tooLate.signal.aborted ? undefined : this.#collectGarbage(tooLate.signal))
      .finally(() => done.abort());
    await Promise.race([this.#recovering, late]);
  }

  async close(): Promise<void> {
    this.#closing.abort(new CriError("CANCELLED", "The server ends."));
    await this.#recovering;
    await this.#retrying;
  }

  async #recoverOne(sandboxId: string): Promise<void> {
    try {
      const whole = await this.#attachments.isThere(sandboxId);
      if (!whole || this.#wanted(sandboxId) === undefined) return await this.#renew(sandboxId);
    } catch (error) {
      return this.#tryLater(sandboxId, error);
    }
    const { signal } = this.#closing;
    await this.#attachments.alone(sandboxId, () => this.#attachments.check(sandboxId, signal))
      .catch((error) => this.#warn("The network of a pod is damaged", sandboxId, error));
  }

  /** Removes a sandbox's network, and makes it anew if it is wanted. */
  async #renew(sandboxId: string): Promise<void> {
    const attachments = this.#attachments;
    const { signal } = this.#closing;
    await attachments.alone(sandboxId, async () => {
      // Whoever stops the sandbox from now on waits for its turn to detach it.
      const config = this.#wanted(sandboxId);
      if (config === undefined) return await attachments.remove(sandboxId, signal);
      await attachments.clear(sandboxId, signal);
      try {
        await attachments.add(sandboxId, config, signal);
      } catch (error) {
        await attachments.clear(sandboxId, signal);
        throw error;
      }
    });
  }

  #tryLater(sandboxId: string, why: unknown): void {
    if (this.#closing.signal.aborted) return;
    this.#warn("The network of a pod is not as it must be yet", sandboxId, why);
    this.#unfinished.add(sandboxId);
    this.#retrying ??= this.#retry();
  }

  async #retry(): Promise<void> {
    const { signal } = this.#closing;
    while (this.#unfinished.size > 0) {
      await this.place.clock.sleep(RETRY_MS, signal).catch(() => {});
      for (const sandboxId of [...this.#unfinished]) {
        if (signal.aborted) return;
        await this.#renew(sandboxId).then(
          () => this.#unfinished.delete(sandboxId),
          (error) => this.#tryLater(sandboxId, error),
        );
      }
    }
    this.#retrying = undefined;
  }

  async #collectGarbage(signal: AbortSignal): Promise<void> {
    try {
      const chain = await this.#attachments.currentChain();
      const valid = [
        ...this.#attachments.names(),
        ...await foreignAttachments(this.place.namespaces),
      ];
      const either = AbortSignal.any([signal, this.#closing.signal]);
      await chain.collectGarbage(valid, this.#attachments.lockPath(QUESTIONS), either);
    } catch (error) {
      this.log.warning(`Network plugins have not collected garbage: ${messageOf(error)}`);
    }
  }

  #warn(what: string, sandboxId: string, why: unknown): void {
    this.log.warning(`${what}: ${messageOf(why)}`, { sandbox: sandboxId });
  }
}
