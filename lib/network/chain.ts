import { CriError, messageOf } from "../base/error.ts";
import { isObject, type JsonObject } from "./json.ts";
import type { NetworkConfig, PluginConfig } from "./network_config.ts";
import type { Attachment, PluginCall, Plugins } from "./plugin.ts";
import { type CniResult, inVersion, parseResult } from "./result.ts";
import { isAtLeast, NEWEST_VERSION } from "./versions.ts";

/**
 * A plugin may wait for a lease or for a daemon that starts; the client waits four minutes for a pod. DEL is part of
 * StopPodSandbox, which it waits two minutes for.
 */
const CHANGE_TIMEOUT_MS = 60_000;

/** Questions are part of calls that must be answered at once, such as Status. */
const QUESTION_TIMEOUT_MS = 5_000;

/** What one pod is attached with. */
export interface PodAttachment extends Attachment {
  /** Capability arguments by capability; each plugin gets those that its configuration asks for. */
  readonly capabilities: JsonObject;
}

/** An attachment as GC names it. */
export interface AttachmentName {
  readonly containerID: string;
  readonly ifname: string;
}

/** One network: its plugins, run in their order (SPEC.md, section 3). */
export class Chain {
  constructor(readonly plugins: Plugins, readonly network: NetworkConfig) {}

  /**
   * Adds a pod, plugin by plugin, each told of the result of the one before it. After a failure `remove` must follow.
   * `keep` is given each result before the next plugin runs: without it some plugins, as firewall, remove nothing.
   * @throws CriError as `Plugins.run`; FAILED_PRECONDITION when an answer is no result.
   */
  async add(
    attachment: PodAttachment,
    lockPath: string,
    keep: (result: CniResult) => void,
    signal: AbortSignal,
  ): Promise<CniResult | undefined> {
    const { cniVersion } = this.network;
    let result: CniResult | undefined;
    for (const plugin of this.network.plugins) {
      const stdout = await this.#run(plugin, "ADD", {
        attachment,
        lockPath,
        signal,
        result,
        timeoutMs: CHANGE_TIMEOUT_MS,
      });
      result = parseResult(stdout, cniVersion, plugin.type);
      keep(result);
    }
    return result;
  }

  /**
   * Asks the plugins whether the pod's network is as `result` says; nothing where the configuration forbids or its
   * version has no such question.
   * @throws CriError as `Plugins.run`, of the first that says no.
   */
  async check(
    attachment: PodAttachment,
    result: CniResult,
    lockPath: string,
    signal: AbortSignal,
  ): Promise<void> {
    const { disableCheck, cniVersion } = this.network;
    if (disableCheck || !isAtLeast(cniVersion, "0.4.0")) return;
    for (const plugin of this.network.plugins) {
      await this.#run(plugin, "CHECK", {
        attachment,
        lockPath,
        signal,
        result,
        timeoutMs: QUESTION_TIMEOUT_MS,
      });
    }
  }

  /**
   * Removes a pod, in reverse order; `result` is the last one there was. A plugin that does not know the pod, or not
   * the configuration's version, which it then has refused at ADD too, has nothing to remove.
   * `signal` lets no further plugin begin, and cuts none short: bridge, killed between its interface and its rules of
   * iptables, would never remove those.
   * @throws CriError as `Plugins.run`, of the first plugin that fails; it is to be repeated then.
   */
  async remove(
    attachment: PodAttachment,
    result: CniResult | undefined,
    lockPath: string,
    signal?: AbortSignal,
  ): Promise<void> {
    const told = isAtLeast(this.network.cniVersion, "0.4.0") ? result : undefined;
    for (const plugin of this.network.plugins.toReversed()) {
      signal?.throwIfAborted();
      try {
        await this.#run(plugin, "DEL", {
          attachment,
          lockPath,
          result: told,
          timeoutMs: CHANGE_TIMEOUT_MS,
        });
      } catch (error) {
        const { code } = CriError.from(error);
        if (code !== "NOT_FOUND" && code !== "UNIMPLEMENTED") throw error;
      }
    }
  }

  /** The attachment without what the pod asked for, where plugins are told of that; undefined where they are not. */
  withoutWishes(attachment: PodAttachment): PodAttachment | undefined {
    const told = this.network.plugins.some((plugin) =>
      "runtimeConfig" in requestOf(this.network, plugin, attachment.capabilities)
    );
    return told ? { ...attachment, capabilities: {} } : undefined;
  }

  /**
   * Whether every plugin is there and speaks the configuration's version.
   * @throws CriError FAILED_PRECONDITION, a sentence, when not; as `Plugins.run`.
   */
  async verify(lockPath: string): Promise<void> {
    const { cniVersion, name } = this.network;
    for (const { type } of this.network.plugins) {
      const stdout = await this.plugins.run({
        command: "VERSION",
        type,
        request: { cniVersion: NEWEST_VERSION },
        // Plugins built against an old library want all of these to be set (libcni).
        attachment: { containerId: "", netnsPath: "dummy", ifName: "dummy", args: "" },
        lockPath,
        timeoutMs: QUESTION_TIMEOUT_MS,
      });
      const spoken = supportedVersions(stdout);
      if (spoken.includes(cniVersion)) continue;
      throw new CriError(
        "FAILED_PRECONDITION",
        `Cannot use the network '${name}' as its plugin ${type} must speak CNI ${cniVersion}: it speaks ${
          spoken.join(", ") || "none that it names"
        }; give the configuration cniVersions that all its plugins speak.`,
      );
    }
  }

  /**
   * Whether the plugins can attach pods now (since 1.1.0). @throws CriError as `Plugins.run`, of the first that cannot.
   */
  async status(lockPath: string): Promise<void> {
    if (!isAtLeast(this.network.cniVersion, "1.1.0")) return;
    for (const plugin of this.network.plugins) {
      await this.#run(plugin, "STATUS", { lockPath, timeoutMs: QUESTION_TIMEOUT_MS });
    }
  }

  /**
   * Lets the plugins free what belongs to none of `valid` (since 1.1.0, unless the configuration forbids it). All are
   * asked, whatever one answers.
   * @throws CriError UNAVAILABLE with what went wrong.
   */
  async collectGarbage(
    valid: readonly AttachmentName[],
    lockPath: string,
    signal: AbortSignal,
  ): Promise<void> {
    if (this.network.disableGC || !isAtLeast(this.network.cniVersion, "1.1.0")) return;
    // The second name is that of plugins from before the specification was corrected (libcni, issue 1101).
    const keys = { "cni.dev/valid-attachments": valid, "cni.dev/attachments": valid };
    const failures: string[] = [];
    for (const plugin of this.network.plugins) {
      await this.#run(plugin, "GC", { lockPath, signal, keys, timeoutMs: CHANGE_TIMEOUT_MS })
        .catch((error) => failures.push(messageOf(error)));
    }
    if (failures.length > 0) throw new CriError("UNAVAILABLE", failures.join(" "));
  }

  async #run(
    plugin: PluginConfig,
    command: PluginCall["command"],
    { attachment, result, keys, ...call }:
      & Pick<PluginCall, "lockPath" | "signal" | "timeoutMs">
      & { attachment?: PodAttachment; result?: CniResult | undefined; keys?: JsonObject },
  ): Promise<string> {
    const request = {
      ...requestOf(this.network, plugin, attachment?.capabilities ?? {}),
      ...(result === undefined ? {} : {
        prevResult: inVersion(result, this.network.cniVersion),
      }),
      ...keys,
    };
    return await this.plugins.run({
      ...call,
      command,
      type: plugin.type,
      request,
      ...(attachment === undefined ? {} : { attachment }),
    });
  }
}

/** A plugin's configuration as it is given to it (SPEC.md, "Deriving request configuration"). */
function requestOf(
  network: NetworkConfig,
  plugin: PluginConfig,
  capabilities: JsonObject,
): JsonObject {
  const { capabilities: wanted, ...rest } = plugin;
  const own = Object.entries(rest).filter(([key]) => !key.startsWith("cni.dev/"));
  const runtimeConfig = Object.fromEntries(
    Object.entries(isObject(wanted) ? wanted : {}).flatMap(([capability, value]) =>
      value === true && Object.hasOwn(capabilities, capability)
        ? [[capability, capabilities[capability]]]
        : []
    ),
  );
  return {
    ...Object.fromEntries(own),
    name: network.name,
    cniVersion: network.cniVersion,
    ...(Object.keys(runtimeConfig).length === 0 ? {} : { runtimeConfig }),
  };
}

function supportedVersions(stdout: string): unknown[] {
  try {
    const { supportedVersions: list } = JSON.parse(stdout);
    return Array.isArray(list) ? list : [];
  } catch {
    return [];
  }
}
