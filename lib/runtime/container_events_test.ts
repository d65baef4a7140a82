import { assertEquals, assertRejects } from "@std/assert";
import { CriError } from "../base/error.ts";
import {
  type ContainerEventResponse,
  ContainerEventType,
  ContainerState,
  PodSandboxState,
} from "../cri/api.generated.ts";
import { createContainer } from "./container_create.ts";
import { containerEvents, MAX_WAITING_EVENTS } from "./container_events.ts";
import { removeContainer } from "./container_remove.ts";
import { startContainer } from "./container_start.ts";
import { removePodSandbox } from "./sandbox_remove.ts";
import { runPodSandbox } from "./sandbox_run.ts";
import { stopPodSandbox } from "./sandbox_stop.ts";
import {
  containerRequest,
  NEVER,
  sandboxRequest,
  type TestRuntime,
  withRuntime,
} from "./test_runtime.ts";

/** A client of the events of a runtime, from its making on. */
class Client {
  readonly #abort = new AbortController();
  readonly #events: AsyncGenerator<ContainerEventResponse>;
  #next: Promise<IteratorResult<ContainerEventResponse>>;

  constructor({ runtime }: TestRuntime) {
    this.#events = containerEvents(runtime, this.#abort.signal);
    this.#next = this.#events.next();
  }

  async read(): Promise<ContainerEventResponse> {
    const { value, done } = await this.#next;
    if (done) throw new Error("the events have ended");
    this.#next = this.#events.next();
    return value;
  }

  /** Reads so many, and tells what they say. */
  async told(count: number): Promise<[id: string, type: string][]> {
    const told: [string, string][] = [];
    while (told.length < count) {
      const { containerId, containerEventType } = await this.read();
      told.push([containerId, ContainerEventType[containerEventType] ?? ""]);
    }
    return told;
  }

  /** Cancels, and reads what is left. */
  async end(): Promise<unknown[]> {
    this.#abort.abort();
    const left = [];
    for (let result = await this.#next; !result.done; result = await this.#events.next()) {
      left.push(result.value);
    }
    return left;
  }
}

Deno.test("containerEvents() tells each change of a pod once and in order", () =>
  withRuntime(async (test) => {
    const client = new Client(test);
    const { runtime, adapter } = test;
    const pod = await runPodSandbox(runtime, sandboxRequest());
    const one = await createContainer(runtime, containerRequest(pod));
    await createContainer(runtime, containerRequest(pod));
    await startContainer(runtime, one, NEVER);
    test.store.containers.update(one, (record) => ({ ...record, workload: { changed: true } }));
    adapter.exit(one, 7);
    await removeContainer(runtime, one, NEVER);
    const two = await createContainer(runtime, containerRequest(pod));
    await startContainer(runtime, two, NEVER);
    await stopPodSandbox(runtime, pod, NEVER);
    await stopPodSandbox(runtime, pod, NEVER);
    await removePodSandbox(runtime, pod, NEVER);
    const expected = [
      [pod, "CREATED"],
      [pod, "STARTED"],
      [one, "CREATED"],
      [one, "STARTED"],
      [one, "STOPPED"],
      [one, "DELETED"],
      [two, "CREATED"],
      [two, "STARTED"],
      [two, "STOPPED"],
      [pod, "STOPPED"],
      [two, "DELETED"],
      [pod, "DELETED"],
    ].map(([id, type]) => [id, `CONTAINER_${type}_EVENT`]);
    assertEquals(await client.told(expected.length), expected);
    assertEquals(await client.end(), []);
  }));

Deno.test("containerEvents() tells the pod as it was at the change", () =>
  withRuntime(async (test) => {
    const client = new Client(test);
    const { runtime, adapter } = test;
    const pod = await runPodSandbox(runtime, sandboxRequest());
    const container = await createContainer(runtime, containerRequest(pod));
    await startContainer(runtime, container, NEVER);
    test.clock.advance(5000);
    const endedAt = BigInt(test.clock.now()) * 1_000_000n;
    adapter.exit(container, 7);
    await removePodSandbox(runtime, pod, NEVER);
    await client.told(3);
    const started = await client.read();
    const stopped = await client.read();
    assertEquals(
      [started, stopped].map(({ containersStatuses }) => containersStatuses[0]?.state),
      [ContainerState.CONTAINER_RUNNING, ContainerState.CONTAINER_EXITED],
    );
    assertEquals(stopped.containersStatuses[0]?.exitCode, 7);
    assertEquals(stopped.createdAt, endedAt);
    await client.told(2);
    const deleted = await client.read();
    assertEquals([deleted.containerId, deleted.containersStatuses], [pod, []]);
    assertEquals(
      [started, deleted].map(({ podSandboxStatus }) => podSandboxStatus?.state),
      [PodSandboxState.SANDBOX_READY, PodSandboxState.SANDBOX_NOTREADY],
    );
    assertEquals(deleted.podSandboxStatus?.metadata?.uid, "uid");
    assertEquals(await client.end(), []);
  }));

Deno.test("containerEvents() tells every client all, from its call on", () =>
  withRuntime(async (test) => {
    const first = new Client(test);
    const pod = await runPodSandbox(test.runtime, sandboxRequest());
    const second = new Client(test);
    await stopPodSandbox(test.runtime, pod, NEVER);
    const stopped: [string, string] = [pod, "CONTAINER_STOPPED_EVENT"];
    assertEquals((await first.told(3)).at(-1), stopped);
    assertEquals(await second.told(1), [stopped]);
    assertEquals([await first.end(), await second.end()], [[], []]);
  }));

Deno.test("containerEvents() fails with RESOURCE_EXHAUSTED behind what waits when too much does", () =>
  withRuntime(async (test) => {
    const client = new Client(test);
    const pod = await runPodSandbox(test.runtime, sandboxRequest());
    await client.told(2);
    const states = ["notready", "ready"] as const;
    for (let changes = 0; changes < 2 * MAX_WAITING_EVENTS + 10; changes++) {
      const state = states[changes % 2] ?? "ready";
      test.store.sandboxes.update(pod, (record) => ({ ...record, state }));
    }
    const told = await client.told(MAX_WAITING_EVENTS);
    assertEquals(told.every(([, type]) => type === "CONTAINER_STOPPED_EVENT"), true);
    const error = await assertRejects(() => client.read(), CriError, "Call again");
    assertEquals(error.code, "RESOURCE_EXHAUSTED");
  }));

Deno.test("containerEvents() leaves no listener behind when its client goes", () =>
  withRuntime(async (test) => {
    const client = new Client(test);
    assertEquals(await client.end(), []);
    await runPodSandbox(test.runtime, sandboxRequest());
    const aborted = AbortSignal.abort();
    assertEquals(await Array.fromAsync(containerEvents(test.runtime, aborted)), []);
  }));
