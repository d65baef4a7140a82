import { join } from "@std/path";
import type { Clock } from "../base/clock.ts";
import { CriError } from "../base/error.ts";
import { KeyedMutex } from "../base/keyed_mutex.ts";
import type { PodSandboxConfig } from "../cri/api.generated.ts";
import type { Executor } from "../executors/executor.ts";
import type { NetworkAttachmentRecord } from "../store/records.ts";
import type { Store } from "../store/store.ts";
import { type AttachmentName, Chain, type PodAttachment } from "./chain.ts";
import { readNetworkConfig } from "./config_files.ts";
import { removeLock } from "./locked_run.ts";
import { namespacePath, type Namespaces } from "./namespaces.ts";
import type { NetworkConfig } from "./network_config.ts";
import { Plugins } from "./plugin.ts";
import { podArguments, podCapabilities } from "./pod_arguments.ts";
import type { PodNetwork } from "./pod_networks.ts";
import { type CniResult, interfaceAddresses } from "./result.ts";

/** The pod's interface; Kubernetes' plugins know no other name. */
export const IF_NAME = "eth0";

/**
 * How often plugins are asked to remove a pod, and how long they are let alone: a plugin's daemon may be restarting.
 */
const REMOVE_ATTEMPTS = 3;
const REMOVE_PAUSE_MS = 500;

/** Where networks are made and kept. */
export interface NetworkPlace {
  /** Directory of network configurations. */
  readonly confDir: string;
  /** Directory of plugins. */
  readonly binDir: string;
  /** An existing directory for locks, which a reboot may empty. */
  readonly stateDir: string;
  readonly store: Pick<Store, "networkAttachments" | "nodeSettings">;
  /** Runs the plugins. */
  readonly executor: Executor;
  readonly namespaces: Pick<Namespaces, "make" | "remove" | "exists" | "sandboxes">;
  readonly clock: Clock;
}

/** What a pod was attached with, as its record keeps it: it is removed with the same (SPEC.md, section 3). */
interface KeptAttachment {
  network: NetworkConfig;
  attachment: PodAttachment;
}

/**
 * The steps by which a sandbox gets a network and loses it, each written down before it is done:
 *
 *   (no record) → namespace → plugins → attached
 *        ↑            │          │         │
 *        └────────────┴──────────┴─────────┘  plugins in reverse (not from "namespace"), then the namespace
 */
export class Attachments {
  readonly #plugins: Plugins;
  readonly #turns = new KeyedMutex();

  constructor(readonly place: NetworkPlace) {
    this.#plugins = new Plugins(place.executor, place.binDir);
  }

  /** Runs `work` when nothing else is done for the sandbox. Not to be nested. */
  async alone<T>(sandboxId: string, work: () => Promise<T>): Promise<T> {
    return await this.#turns.runExclusive(sandboxId, work);
  }

  /** The plugins of the network as it is configured now. @throws CriError FAILED_PRECONDITION. */
  async currentChain(): Promise<Chain> {
    return this.#chain(await readNetworkConfig(this.place.confDir));
  }

  /** The network of a sandbox; undefined when it is not whole. */
  of(sandboxId: string): PodNetwork | undefined {
    const record = this.place.store.networkAttachments.get(sandboxId);
    if (record?.phase !== "attached") return undefined;
    const { netnsPath, addresses } = record;
    return { netnsPath, addresses, result: (record.result as CniResult).json };
  }

  /**
   * Makes the network of a sandbox that has none. After a failure `remove` or `clear` must follow.
   * @throws CriError as `PodNetworks.attach`.
   */
  async add(sandboxId: string, config: PodSandboxConfig, signal: AbortSignal): Promise<PodNetwork> {
    const { namespaces, store: { networkAttachments } } = this.place;
    const kept = await this.#plan(sandboxId, config);
    const { netnsPath } = kept.attachment;
    const record: NetworkAttachmentRecord = {
      id: sandboxId,
      phase: "namespace",
      netnsPath,
      addresses: [],
      attachment: kept,
    };
    const lockPath = this.lockPath(sandboxId);
    networkAttachments.put(record);
    await namespaces.make(sandboxId, lockPath, signal);
    const begun: NetworkAttachmentRecord = { ...record, phase: "plugins" };
    networkAttachments.put(begun);
    const keep = (result: CniResult) => networkAttachments.put({ ...begun, result });
    const result = await this.#chain(kept.network).add(kept.attachment, lockPath, keep, signal);
    const addresses = result === undefined ? [] : interfaceAddresses(result, IF_NAME);
    if (result === undefined || addresses.length === 0) {
      throw new CriError(
        "FAILED_PRECONDITION",
        `Cannot run the pod as the network '${kept.network.name}' must give its ${IF_NAME} an address: its ` +
          "plugins gave none.",
      );
    }
    networkAttachments.put({ ...record, phase: "attached", addresses, result });
    return { netnsPath, addresses, result: result.json };
  }

  /** Removes what there is of a sandbox's network, if anything. @throws CriError as `PodNetworks.detach`. */
  async remove(sandboxId: string, signal?: AbortSignal): Promise<void> {
    if (await this.#takeAway(sandboxId, signal) === undefined) return;
    this.place.store.networkAttachments.delete(sandboxId);
  }

  /** As `remove`, but the record stays, so that it is not forgotten that the sandbox is to have a network. */
  async clear(sandboxId: string, signal: AbortSignal): Promise<void> {
    const record = await this.#takeAway(sandboxId, signal);
    if (record === undefined) return;
    const { result: _, ...rest } = record;
    this.place.store.networkAttachments.put({ ...rest, phase: "namespace", addresses: [] });
  }

  /** Whether a sandbox's network is whole and its namespace still there. */
  async isThere(sandboxId: string): Promise<boolean> {
    return this.of(sandboxId) !== undefined && await this.place.namespaces.exists(sandboxId);
  }

  /** Asks the plugins whether a sandbox's network is as they made it. @throws CriError when it is not. */
  async check(sandboxId: string, signal: AbortSignal): Promise<void> {
    const record = this.place.store.networkAttachments.get(sandboxId);
    if (record?.phase !== "attached") return;
    const { network, attachment } = record.attachment as KeptAttachment;
    const result = record.result as CniResult;
    await this.#chain(network).check(attachment, result, this.lockPath(sandboxId), signal);
  }

  /** Our attachments as plugins know them. */
  names(): AttachmentName[] {
    return this.place.store.networkAttachments.all()
      .map(({ id }) => ({ containerID: id, ifname: IF_NAME }));
  }

  /** The file that commands for a sandbox hold a lock on; `questions` is that of commands for none. */
  lockPath(sandboxId: string): string {
    return join(this.place.stateDir, `network-${sandboxId}.lock`);
  }

  #chain(network: NetworkConfig): Chain {
    return new Chain(this.#plugins, network);
  }

  async #plan(sandboxId: string, config: PodSandboxConfig): Promise<KeptAttachment> {
    const podCidrs = this.place.store.nodeSettings.get("podCidr")?.value.split(",") ?? [];
    const attachment = {
      containerId: sandboxId,
      netnsPath: namespacePath(sandboxId),
      ifName: IF_NAME,
      args: podArguments(sandboxId, config),
      capabilities: podCapabilities(config, podCidrs),
    };
    const network = await readNetworkConfig(this.place.confDir);
    // One that is missing could not be asked to remove the pod either.
    for (const { type } of network.plugins) await this.#plugins.require(type);
    return { network, attachment };
  }

  async #takeAway(
    sandboxId: string,
    signal?: AbortSignal,
  ): Promise<NetworkAttachmentRecord | undefined> {
    const record = this.place.store.networkAttachments.get(sandboxId);
    if (record === undefined) return undefined;
    const lockPath = this.lockPath(sandboxId);
    if (record.phase !== "namespace") await this.#removeByPlugins(record, lockPath, signal);
    await this.place.namespaces.remove(sandboxId, lockPath, signal);
    await removeLock(lockPath);
    return record;
  }

  async #removeByPlugins(
    record: NetworkAttachmentRecord,
    lockPath: string,
    signal?: AbortSignal,
  ): Promise<void> {
    const { network, attachment } = record.attachment as KeptAttachment;
    // Plugins fail at a path where there is nothing, as after a reboot, but not at none.
    const netnsPath = await this.place.namespaces.exists(record.id) ? record.netnsPath : "";
    const chain = this.#chain(network);
    const result = record.result as CniResult | undefined;
    const gone = { ...attachment, netnsPath };
    for (let attempt = 1;; attempt++) {
      try {
        return await chain.remove(gone, result, lockPath, signal);
      } catch (error) {
        const later = error instanceof CriError && error.code === "UNAVAILABLE";
        if (later && attempt < REMOVE_ATTEMPTS) {
          await this.place.clock.sleep(REMOVE_PAUSE_MS, signal);
          continue;
        }
        // What a plugin cannot read of a pod it would never remove, nor any plugin before it in the chain. One that
        // read it when the pod came fails for another reason, and would leave what it made: portmap does without ports.
        if (record.phase === "attached" || isInterrupted(error)) throw error;
        const plain = chain.withoutWishes(gone);
        if (plain === undefined) throw error;
        return await chain.remove(plain, result, lockPath, signal).catch(() => {
          throw error;
        });
      }
    }
  }
}

/** Whether a plugin was given no time to end. */
function isInterrupted(error: unknown): boolean {
  return error instanceof CriError && ["CANCELLED", "DEADLINE_EXCEEDED"].includes(error.code);
}
