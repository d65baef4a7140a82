/** A runtime over a real store and an adapter that only keeps records, for the tests of this directory. */
import type {
  Adapter,
  AdapterCondition,
  ContainerRequest,
  ContainerUsage,
  ExecResult,
  ResourceChange,
} from "../adapters/adapter.ts";
import { createLogger } from "../base/log.ts";
import { KeyedMutex } from "../base/keyed_mutex.ts";
import { TestClock } from "../base/test_clock.ts";
import { parseInvocation } from "../config/flags.ts";
import {
  type ContainerConfig,
  CreateContainerRequest,
  type PodSandboxConfig,
  RunPodSandboxRequest,
  Signal,
} from "../cri/api.generated.ts";
import { ImageService } from "../images/image_service.ts";
import type { Puller } from "../images/puller.ts";
import { beginStart, markExited, markRunning } from "../store/container_state.ts";
import type { CommandRunner, PortForwarder } from "../streaming/process.ts";
import type { ContainerRecord } from "../store/records.ts";
import type { Store } from "../store/store.ts";
import { imageRecord, TestStore } from "../store/test_store.ts";
import { createContainer } from "./container_create.ts";
import type { Runtime } from "./runtime.ts";
import { runPodSandbox } from "./sandbox_run.ts";

/** Runs nothing; each call is written down as `verb id`, and fails with `failures[verb]` when that is set. */
export class TestAdapter implements Adapter {
  readonly name = "test";
  readonly features = {
    recursiveReadOnlyMounts: true,
    supplementalGroupsPolicy: false,
    userNamespaces: false,
  };
  readonly calls: string[] = [];
  readonly failures: Partial<
    Record<
      "abandon" | "check" | "open" | "prepare" | "remove" | "run" | "start" | "stop" | "update",
      Error
    >
  > = {};
  /** What was told of pods that were checked. */
  readonly checked: { ownNetwork: boolean }[] = [];
  readonly stoppedSandboxes: string[] = [];
  readonly removedSandboxes: string[] = [];
  readonly pods = {
    check: (_: PodSandboxConfig, ownNetwork: boolean) => {
      this.checked.push({ ownNetwork });
      if (this.failures.check !== undefined) throw this.failures.check;
    },
    run: () =>
      this.failures.run === undefined ? Promise.resolve() : Promise.reject(this.failures.run),
    stop: (id: string) => Promise.resolve(void this.stoppedSandboxes.push(id)),
    remove: (id: string) => Promise.resolve(void this.removedSandboxes.push(id)),
  };
  /** A start waits for this. */
  startGate: Promise<void> = Promise.resolve();
  /** A stop waits for this. */
  stopGate: Promise<void> = Promise.resolve();
  conditionList: AdapterCondition[] = [];
  readonly changes: ResourceChange[] = [];
  readonly usages = new Map<string, ContainerUsage>();

  constructor(readonly store: Store, readonly clock: TestClock) {}

  async prepareContainer({ id }: ContainerRequest): Promise<unknown> {
    this.#called("prepare", id);
    return await Promise.resolve({ prepared: true });
  }

  async startContainer(id: string): Promise<void> {
    this.#called("start", id);
    this.#update(id, (record) => ({ ...record, state: beginStart(record.state) }));
    await this.startGate;
    this.#update(id, (r) => ({ ...r, state: markRunning(r.state, this.clock.now()) }));
  }

  async stopContainer(id: string, graceMs: number): Promise<void> {
    this.#called("stop", `${id} ${graceMs}`);
    const phase = () => this.store.containers.get(id)?.state.phase;
    if (phase() !== "starting" && phase() !== "running") return;
    await this.stopGate;
    if (phase() === "starting") await this.startGate;
    if (phase() === "running") this.exit(id, 143);
  }

  async abandonContainer(id: string): Promise<void> {
    this.#called("abandon", id);
    this.exit(id, 255);
    await Promise.resolve();
  }

  async updateResources({ id }: ContainerRecord, change: ResourceChange): Promise<void> {
    this.#called("update", id);
    this.changes.push(change);
    await Promise.resolve();
  }

  async removeContainer({ id }: ContainerRecord): Promise<void> {
    this.#called("remove", id);
    await Promise.resolve();
  }

  reopenLog(id: string): Promise<void> {
    this.calls.push(`reopen ${id}`);
    return Promise.resolve();
  }

  execSync(
    id: string,
    argv: readonly string[],
    timeoutMs: number,
  ): Promise<ExecResult> {
    this.calls.push(`exec ${id} ${timeoutMs} ${argv.join(" ")}`);
    return Promise.resolve({
      stdout: new Uint8Array([1]),
      stderr: new Uint8Array([2]),
      exitCode: 3,
    });
  }

  usage(id: string): ContainerUsage | undefined {
    return this.usages.get(id);
  }

  openExec(id: string, argv: readonly string[], tty: boolean): Promise<CommandRunner> {
    this.#called("open", `exec ${id} ${tty} ${argv.join(" ")}`);
    return Promise.resolve(() => Promise.resolve(3));
  }

  openAttach(id: string): Promise<CommandRunner> {
    this.#called("open", `attach ${id}`);
    return Promise.resolve(() => Promise.resolve(0));
  }

  openPortForward(ids: readonly string[]): Promise<PortForwarder> {
    this.#called("open", `ports ${ids.join(" ")}`);
    return Promise.resolve(() => Promise.resolve());
  }

  stopSignalOf({ config }: ContainerRecord): Signal {
    return config.stopSignal || Signal.SIGNAL_SIGTERM;
  }

  describeContainer(container: ContainerRecord): Record<string, unknown> {
    return { workload: container.workload };
  }

  conditions(): AdapterCondition[] {
    return this.conditionList;
  }

  recover(): Promise<void> {
    return Promise.resolve();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  /** The program ends by itself. */
  exit(id: string, exitCode: number): void {
    const end = { finishedAtMs: this.clock.now(), exitCode, reason: "Error", message: "it ended" };
    this.#update(id, (record) => ({ ...record, state: markExited(record.state, end) }));
  }

  #called(verb: keyof TestAdapter["failures"], rest: string): void {
    this.calls.push(`${verb} ${rest}`);
    const failure = this.failures[verb];
    if (failure !== undefined) throw failure;
  }

  #update(id: string, change: (record: ContainerRecord) => ContainerRecord): void {
    this.store.containers.update(id, change);
  }
}

/** Answers with what was asked for in place of a URL. */
export const TEST_STREAMS: Runtime["streams"] = {
  execUrl: (wanted) => `exec ${JSON.stringify(wanted)}`,
  attachUrl: (wanted) => `attach ${JSON.stringify(wanted)}`,
  portForwardUrl: () => "ports",
};

export interface TestRuntime {
  runtime: Runtime;
  adapter: TestAdapter;
  store: Store;
  clock: TestClock;
}

/** Runs `use` over an empty runtime with the image `perl` in its pool. */
export async function withRuntime(use: (test: TestRuntime) => Promise<void>): Promise<void> {
  await using records = await TestStore.open();
  const { store } = records;
  const invocation = parseInvocation([], () => undefined);
  if (invocation.kind !== "serve") throw new Error("expected a configuration");
  const clock = new TestClock();
  const adapter = new TestAdapter(store, clock);
  const log = createLogger({ threshold: "error", write: () => {} });
  const images = new ImageService(records.path("pool"), store, {} as Puller, clock, log);
  store.images.put(imageRecord());
  await use({
    runtime: {
      config: invocation.config,
      store,
      adapter,
      images,
      streams: TEST_STREAMS,
      networks: undefined,
      traffic: undefined,
      clock,
      nodeAddress: "192.0.2.1",
      systemdNode: true,
      locks: new KeyedMutex(),
    },
    adapter,
    store,
    clock,
  });
}

/** A signal that never aborts. */
export const NEVER = new AbortController().signal;

export function sandboxRequest(
  changes: Parameters<typeof RunPodSandboxRequest.fromPartial>[0] = {},
): RunPodSandboxRequest {
  return RunPodSandboxRequest.fromPartial({
    config: { metadata: { name: "pod", namespace: "ns", uid: "uid" }, logDirectory: "/logs" },
    runtimeHandler: "multicri",
    ...changes,
  });
}

export function containerRequest(
  podSandboxId: string,
  config: Partial<ContainerConfig> = {},
): CreateContainerRequest {
  return CreateContainerRequest.fromPartial({
    podSandboxId,
    config: {
      metadata: { name: "main" },
      image: { image: "perl" },
      logPath: "main/0.log",
      envs: [{ key: "TOKEN", value: new TextEncoder().encode("secret") }],
      ...config,
    },
  });
}

/** A pod with a created container. */
export async function createPod(runtime: Runtime): Promise<{ pod: string; container: string }> {
  const pod = await runPodSandbox(runtime, sandboxRequest(), NEVER);
  return { pod, container: await createContainer(runtime, containerRequest(pod)) };
}
