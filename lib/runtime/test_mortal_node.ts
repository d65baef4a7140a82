/** A node on a fake cluster whose server can die around any of its effects, for the tests of this directory. */
import { join } from "@std/path";
import { SlurmAdapter } from "../adapters/slurm/adapter.ts";
import type { TestCluster } from "../adapters/slurm/test_cluster.ts";
import { KeyedMutex } from "../base/keyed_mutex.ts";
import { createLogger } from "../base/log.ts";
import { TestClock } from "../base/test_clock.ts";
import { parseInvocation } from "../config/flags.ts";
import { ContainerConfig, CreateContainerRequest, PodSandboxConfig } from "../cri/api.generated.ts";
import type { ImageService } from "../images/image_service.ts";
import type { ImageRecord } from "../store/records.ts";
import { imageRecord, type TestStore } from "../store/test_store.ts";
import { createContainer } from "./container_create.ts";
import { startContainer } from "./container_start.ts";
import type { Runtime } from "./runtime.ts";
import { runPodSandbox } from "./sandbox_run.ts";
import { NEVER, TEST_STREAMS } from "./test_runtime.ts";

/** Longer than any verb takes here, so that a wait for the cluster ends in a test's time. */
const STEP_MS = 1_000;

class Crash extends Error {}

/** On which side of an effect the server dies. */
export type When = "before" | "after";

/** Counts effects, and lets the process die around one of them: no effect happens after that. */
class Mortality {
  #left: number | undefined;
  #when: When = "before";
  #dead = false;

  arm(step: number, when: When): void {
    this.#left = step;
    this.#when = when;
  }

  get dead(): boolean {
    return this.#dead;
  }

  revive(): void {
    this.#left = undefined;
    this.#dead = false;
  }

  /** Replaces a method by one that is an effect. */
  watch<K extends string>(target: Record<K, (...args: never[]) => unknown>, name: K): void {
    const method = target[name].bind(target) as (...args: unknown[]) => unknown;
    target[name] = ((...args: unknown[]) => {
      if (this.#dead) throw new Crash("dead");
      if (this.#left !== undefined && --this.#left === 0) {
        if (this.#when === "before") return this.#die();
        const result = method(...args);
        if (result instanceof Promise) return result.then(() => this.#die());
        return this.#die();
      }
      return method(...args);
    }) as typeof target[K];
  }

  #die(): never {
    this.#dead = true;
    throw new Crash("crash");
  }
}

/** A runtime on a cluster in a directory, whose process can die and be followed by the next. */
export class MortalNode implements AsyncDisposable {
  readonly #mortality = new Mortality();
  readonly clock = new TestClock();
  runtime: Runtime;
  readonly #image = imageRecord();
  #timer: ReturnType<typeof setInterval>;

  constructor(readonly cluster: TestCluster, readonly records: TestStore) {
    const { store } = records;
    type Methods = Record<string, (...args: never[]) => unknown>;
    for (const table of [store.sandboxes, store.containers, store.jobTags, store.logPositions]) {
      this.#mortality.watch(table as unknown as Methods, "put");
      this.#mortality.watch(table as unknown as Methods, "delete");
    }
    this.#mortality.watch(store.secrets as unknown as Methods, "write");
    this.#mortality.watch(store.secrets as unknown as Methods, "delete");
    this.#mortality.watch(cluster as unknown as Methods, "run");
    this.runtime = this.#boot();
    // Time passes while verbs wait for jobs to be looked at.
    this.#timer = setInterval(() => this.clock.advance(STEP_MS), 5);
  }

  async prepare(): Promise<void> {
    const sif = this.records.path("image.sif");
    await Deno.writeTextFile(sif, "sif");
    const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode("sif"));
    Object.assign(this.#image, {
      sif: { path: sif, sizeBytes: 3, sha256: new Uint8Array(digest).toHex() },
    });
    this.records.store.images.put(this.#image);
  }

  #boot(): Runtime {
    const invocation = parseInvocation(
      [`--pod-logs-dir=${this.records.directory}`],
      () => undefined,
    );
    if (invocation.kind !== "serve") throw new Error("expected a configuration");
    const { store } = this.records;
    return {
      config: invocation.config,
      store,
      adapter: new SlurmAdapter(
        invocation.config,
        { allowed: [], named: new Map(), defaultName: undefined },
        store,
        this.cluster.sessions,
        this.clock,
        createLogger({ threshold: "error", write: () => {} }),
      ),
      images: {
        using: (work: (require: () => ImageRecord) => Promise<string>) => work(() => this.#image),
        collectUnused: () => {},
      } as unknown as ImageService,
      streams: TEST_STREAMS,
      networks: undefined,
      traffic: undefined,
      clock: this.clock,
      nodeAddress: "10.0.0.1",
      systemdNode: false,
      locks: new KeyedMutex(),
    };
  }

  /** Runs a verb in a process that dies around its `step`th effect. True when it died. */
  async dying(step: number, when: When, verb: () => Promise<unknown>): Promise<boolean> {
    this.#mortality.arm(step, when);
    await verb().catch((error) => {
      if (!this.#mortality.dead) throw error;
    });
    const died = this.#mortality.dead;
    await this.runtime.adapter.close().catch(() => {});
    this.#mortality.revive();
    this.runtime = this.#boot();
    await this.runtime.adapter.recover();
    return died;
  }

  readonly sandboxConfig = PodSandboxConfig.fromPartial({
    metadata: { name: "p", namespace: "n", uid: "u", attempt: 0 },
    logDirectory: "/nowhere",
  });

  run(): Promise<string> {
    return runPodSandbox(this.runtime, {
      config: PodSandboxConfig.fromPartial({
        ...this.sandboxConfig,
        logDirectory: this.records.directory,
      }),
      runtimeHandler: "",
    }, NEVER);
  }

  create(podSandboxId: string): Promise<string> {
    const variables = { CLUSTER_HOST: "login", CLUSTER_USERNAME: "u", CLUSTER_PASSWORD: "secret" };
    const envs = Object.entries(variables).map(([key, value]) => ({
      key,
      value: new TextEncoder().encode(value),
    }));
    const config = ContainerConfig.fromPartial({
      metadata: { name: "main", attempt: 0 },
      image: { image: "perl" },
      logPath: "main.log",
      envs,
    });
    return createContainer(
      this.runtime,
      CreateContainerRequest.fromPartial({ podSandboxId, config }),
    );
  }

  async start(container: string): Promise<void> {
    await startContainer(this.runtime, container, NEVER);
  }

  /** As the kubelet: what the lists say decides what is done next. */
  async startUnlessRunning(container: string): Promise<void> {
    const { state } = this.runtime.store.containers.get(container) ?? {};
    if (state?.phase === "created") await this.start(container);
  }

  async jobs(): Promise<string[]> {
    const names: string[] = [];
    for await (const { name } of Deno.readDir(join(this.cluster.root, "fake/jobs"))) {
      names.push(name);
    }
    return names;
  }

  /** Everything that is left of pods, on the node and on the cluster. */
  async leftovers(): Promise<string[]> {
    const { store } = this.records;
    const left = [store.sandboxes, store.containers, store.jobTags, store.logPositions]
      .flatMap((table) => table.all().map(({ id }) => `record ${id}`));
    left.push(...(await store.secrets.ids()).map((id) => `secrets ${id}`));
    for await (const { name } of Deno.readDir(join(this.cluster.home, "multi-cri"))) {
      if (name !== ".images" && name !== ".news") left.push(`directory ${name}`);
    }
    const news = await this.cluster.list(join(this.cluster.home, "multi-cri/.news")) ?? [];
    left.push(...news.map((name) => `news ${name}`));
    for (const job of await this.jobs()) {
      const line = await Deno.readTextFile(join(this.cluster.root, "fake/jobs", job, "line"));
      if (!line.startsWith("CANCELLED")) left.push(`job ${job} ${line}`);
    }
    return left;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.runtime.adapter.close();
  }
}
