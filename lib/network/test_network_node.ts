/**
 * A node whose namespaces and leases are sets, and whose server can die around any effect; for this directory's tests.
 */
import { join } from "@std/path";
import { createLogger } from "../base/log.ts";
import { TestClock } from "../base/test_clock.ts";
import { PodSandboxConfig } from "../cri/api.generated.ts";
import type { Executor, RunOptions, RunResult } from "../executors/executor.ts";
import { TestStore } from "../store/test_store.ts";
import type { NetworkPlace } from "./attachments.ts";
import { CniNetworks } from "./cni_networks.ts";
import type { JsonObject } from "./json.ts";
import { namespacePath } from "./namespaces.ts";

export const NEVER = new AbortController().signal;

export const POD = PodSandboxConfig.fromPartial({
  metadata: { name: "p", namespace: "n", uid: "u", attempt: 0 },
});

/** The server is dead: it has no further effect. */
export class Crash extends Error {}

export class NetworkTestNode implements AsyncDisposable {
  readonly clock = new TestClock();
  readonly namespaces = new Set<string>();
  /** The container's id of each lease. */
  readonly leases = new Set<string>();
  /** What plugins were asked: `COMMAND id`. */
  readonly calls: string[] = [];
  readonly requests: JsonObject[] = [];
  readonly warnings: string[] = [];
  /** The answers of a plugin that fails, by its command, and how often it does. */
  readonly failures: Record<string, { json: JsonObject; times: number }> = {};
  /** Commands of a plugin that hangs until its promise resolves, or it is killed. */
  readonly hanging = new Map<string, Promise<void>>();
  networks: CniNetworks;
  readonly #place: NetworkPlace;
  #untilDeath: number | undefined;
  #when: "before" | "after" = "before";
  #dead = false;

  private constructor(readonly records: TestStore) {
    const { networkAttachments, nodeSettings } = records.store;
    const mortalTable = new Proxy(networkAttachments, {
      get: (table, name) => {
        const member = Reflect.get(table, name);
        if (typeof member !== "function") return member;
        const method = member.bind(table);
        if (name !== "put" && name !== "delete") return method;
        return (...args: unknown[]) => this.#effect(() => method(...args));
      },
    });
    const executor: Executor = {
      run: (argv, options) =>
        this.#soon(() => this.#effect(() => this.#plugin(argv, options ?? {}))).then(
          async (result) => {
            const hangs = this.hanging.get(options?.env?.["CNI_COMMAND"] ?? "");
            await Promise.race([hangs, ...(hangs === undefined ? [] : [killed(options)])]);
            return result;
          },
        ),
    };
    this.#place = {
      confDir: records.path("net.d"),
      binDir: records.path("bin"),
      stateDir: records.directory,
      store: { networkAttachments: mortalTable, nodeSettings },
      executor,
      namespaces: {
        make: (id) => this.#soon(() => this.#effect(() => void this.namespaces.add(id))),
        remove: (id) => this.#soon(() => this.#effect(() => void this.namespaces.delete(id))),
        exists: (id) => Promise.resolve(this.namespaces.has(id)),
        sandboxes: () => Promise.resolve([...this.namespaces]),
      },
      clock: this.clock,
    };
    this.networks = this.#boot();
  }

  static async create(): Promise<NetworkTestNode> {
    const records = await TestStore.open();
    const node = new NetworkTestNode(records);
    for (const name of ["net.d", "bin"]) await Deno.mkdir(records.path(name));
    await Deno.writeTextFile(join(records.path("bin"), "fake"), "");
    await node.configure({ cniVersion: "1.1.0", name: "pods", plugins: [{ type: "fake" }] });
    return node;
  }

  async configure(network: JsonObject): Promise<void> {
    const path = join(this.#place.confDir, "10-pods.conflist");
    await Deno.writeTextFile(path, JSON.stringify(network));
  }

  /** Everything there is of pods' networks. */
  get remains(): string[] {
    return [
      ...[...this.namespaces].map((id) => `namespace ${id}`),
      ...[...this.leases].map((id) => `lease ${id}`),
      ...this.records.store.networkAttachments.all().map(({ id, phase }) =>
        `record ${id} ${phase}`
      ),
    ];
  }

  /** Runs a verb in a server that dies around its `step`th effect. True when it died. */
  async dying(
    step: number,
    when: "before" | "after",
    verb: () => Promise<unknown>,
  ): Promise<boolean> {
    this.#untilDeath = step;
    this.#when = when;
    await verb().catch((error) => {
      if (!this.#dead) throw error;
    });
    const died = this.#dead;
    await this.restart();
    return died;
  }

  /** The next server takes over. */
  async restart(): Promise<void> {
    await this.networks.close();
    this.#untilDeath = undefined;
    this.#dead = false;
    this.networks = this.#boot();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.networks.close();
    await this.records[Symbol.asyncDispose]();
  }

  #boot(): CniNetworks {
    const write = (line: string) => void this.warnings.push(line);
    return new CniNetworks(this.#place, createLogger({ threshold: "warning", write }));
  }

  #soon<T>(work: () => T): Promise<T> {
    return new Promise((resolve) => resolve(work()));
  }

  #effect<T>(work: () => T): T {
    if (this.#dead) throw new Crash("dead");
    if (this.#untilDeath === undefined || --this.#untilDeath > 0) return work();
    if (this.#when === "after") work();
    this.#dead = true;
    throw new Crash("died");
  }

  #plugin(argv: readonly string[], { env = {}, stdin }: RunOptions): RunResult {
    const { CNI_COMMAND: command = "", CNI_CONTAINERID: id = "", CNI_NETNS: netns = "" } = env;
    if (argv.at(-1) !== join(this.#place.binDir, "fake")) throw new Error(`What is ${argv}?`);
    this.calls.push(`${command} ${id}`.trim());
    this.requests.push(JSON.parse(new TextDecoder().decode(stdin)));
    const failure = this.failures[command];
    if (failure !== undefined && failure.times-- > 0) return answer(1, failure.json);
    if (command === "VERSION") return answer(0, { supportedVersions: ["1.0.0", "1.1.0"] });
    if (command === "DEL") this.leases.delete(id);
    if (command !== "ADD") return answer(0, {});
    if (netns !== namespacePath(id) || !this.namespaces.has(id) || this.leases.has(id)) {
      return answer(1, { code: 4, msg: `cannot add ${id} at ${netns}` });
    }
    this.leases.add(id);
    return answer(0, { ips: [{ address: "10.0.0.2/24" }, { address: "fd00::2/64" }] });
  }
}

function killed({ signal }: RunOptions = {}): Promise<never> {
  return new Promise((_, reject) => {
    if (signal?.aborted) reject(signal.reason);
    signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

function answer(code: number, json: JsonObject): RunResult {
  return {
    code,
    stdout: new TextEncoder().encode(JSON.stringify(json)),
    stderr: new Uint8Array(),
  };
}
