/** An adapter on a test cluster with one container, for the tests of this directory. */
import { join } from "@std/path";
import { createLogger } from "../../base/log.ts";
import { TestClock } from "../../base/test_clock.ts";
import { parseInvocation } from "../../config/flags.ts";
import { ContainerConfig } from "../../cri/api.generated.ts";
import type { Clusters } from "../../config/clusters.ts";
import type { ContainerRecord } from "../../store/records.ts";
import { containerRecord, imageRecord, sandboxRecord, TestStore } from "../../store/test_store.ts";
import { SlurmAdapter } from "./adapter.ts";
import { TestCluster } from "./test_cluster.ts";
import { workloadOf } from "./workload.ts";

/** A signal that never aborts. */
export const NEVER = new AbortController().signal;

export class Place {
  readonly clock = new TestClock();
  /** What the administrator allows; the next process reads it. */
  clusters: Clusters = { allowed: [], named: new Map(), defaultName: undefined };
  adapter: SlurmAdapter;

  constructor(readonly cluster: TestCluster, readonly records: TestStore) {
    this.adapter = this.#makeAdapter();
  }

  /** The next process of the server. */
  async restart(): Promise<void> {
    await this.adapter.close();
    this.adapter = this.#makeAdapter();
    await this.adapter.recover();
  }

  #makeAdapter(): SlurmAdapter {
    const invocation = parseInvocation(
      [
        `--pod-logs-dir=${this.records.directory}`,
        `--kubelet-root-dir=${this.records.path("kubelet")}`,
      ],
      () => undefined,
    );
    if (invocation.kind !== "serve") throw new Error("expected a configuration");
    return new SlurmAdapter(
      invocation.config,
      this.clusters,
      this.records.store,
      this.cluster.sessions,
      this.clock,
      createLogger({ threshold: "error", write: () => {} }),
    );
  }

  /** A container as CreateContainer leaves it, with more variables if `more` holds some, and with mounts. */
  async create(
    more: Record<string, string> = {},
    mounts: readonly { containerPath: string; hostPath: string; readonly?: boolean }[] = [],
  ): Promise<void> {
    const { store } = this.records;
    const sif = this.records.path("image.sif");
    await Deno.writeTextFile(sif, "sif");
    const sha256 = new Uint8Array(
      await crypto.subtle.digest("SHA-256", new TextEncoder().encode("sif")),
    ).toHex();
    const image = imageRecord({ sif: { path: sif, sizeBytes: 3, sha256 } });
    const sandbox = sandboxRecord();
    sandbox.config.logDirectory = this.records.directory;
    const variables = {
      CLUSTER_HOST: "login",
      CLUSTER_USERNAME: "u",
      CLUSTER_PASSWORD: "secret",
      TOKEN: "token",
      ...more,
    };
    const config = ContainerConfig.fromPartial({
      metadata: { name: "main" },
      logPath: "main.log",
      mounts: [...mounts],
      envs: Object.entries(variables).map(([key, value]) => ({
        key,
        value: new TextEncoder().encode(value),
      })),
    });
    store.images.put(image);
    store.sandboxes.put(sandbox);
    const workload = await this.adapter.prepareContainer({
      sandboxId: "pod",
      id: "c1",
      sandbox: sandbox.config,
      config,
      image,
      volumeImages: new Map(),
    });
    store.containers.put(containerRecord({ config: { ...config, envs: [] }, workload }));
  }

  get record(): ContainerRecord {
    const record = this.records.store.containers.get("c1");
    if (record === undefined) throw new Error("the container is gone");
    return record;
  }

  get jobId(): string | undefined {
    return workloadOf(this.record).jobId;
  }

  /** The container's directory on the cluster. */
  get directory(): string {
    return join(this.cluster.home, "multi-cri/s1/c1");
  }

  /** How the container ended; undefined while it has not. */
  get end(): [exitCode: number, reason: string] | undefined {
    const { state } = this.record;
    return state.phase === "exited" ? [state.exitCode, state.reason] : undefined;
  }

  start(): Promise<void> {
    return this.adapter.startContainer("c1", NEVER);
  }

  async until(holds: (record: ContainerRecord) => boolean): Promise<void> {
    await this.records.store.containers.waitFor("c1", holds, NEVER);
  }

  /** Lets time pass, so that jobs are looked at, until `done` is. */
  async look(done: Promise<void>): Promise<void> {
    const timer = setInterval(() => this.clock.advance(1_000), 5);
    await done.finally(() => clearInterval(timer));
  }

  async notes(): Promise<string> {
    return await Deno.readTextFile(this.records.path("main.log")).catch(() => "");
  }

  /** Names in the container's directory on the cluster. */
  async files(): Promise<string[]> {
    const names: string[] = [];
    try {
      for await (const { name } of Deno.readDir(this.directory)) {
        names.push(name);
      }
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
    return names;
  }
}

/** Registers a test on a place with one container that was created. */
export function placeTest(name: string, use: (place: Place) => Promise<void>): void {
  Deno.test(name, async () => {
    await using cluster = await TestCluster.create();
    await using records = await TestStore.open();
    const place = new Place(cluster, records);
    await place.create();
    try {
      await use(place);
    } finally {
      await place.adapter.close();
    }
  });
}
