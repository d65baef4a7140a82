import { assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { CriError } from "../base/error.ts";
import {
  type ContainerConfig,
  ContainerFilter,
  ContainerState,
  ImageSpec,
  Signal,
} from "../cri/api.generated.ts";
import { IMAGE_ID, imageRecord } from "../store/test_store.ts";
import { createContainer } from "./container_create.ts";
import { removeContainer } from "./container_remove.ts";
import { startContainer } from "./container_start.ts";
import { containerStatusResponse, listContainers } from "./container_status.ts";
import { stopContainer } from "./container_stop.ts";
import { runPodSandbox } from "./sandbox_run.ts";
import { stopPodSandbox } from "./sandbox_stop.ts";
import { containerRequest, createPod, NEVER, sandboxRequest, withRuntime } from "./test_runtime.ts";

Deno.test("createContainer() returns the same id when it is repeated", () =>
  withRuntime(async ({ runtime, adapter }) => {
    const pod = await runPodSandbox(runtime, sandboxRequest(), NEVER);
    const create = (labels: Record<string, string>) =>
      createContainer(runtime, containerRequest(pod, { labels }));
    const ids = await Promise.all([create({ a: "1", b: "2" }), create({ b: "2", a: "1" })]);
    assertEquals(ids[1], ids[0]);
    assertEquals(adapter.calls, [`prepare ${ids[0]}`]);
  }));

Deno.test("createContainer() keeps no value of the environment", () =>
  withRuntime(async ({ runtime, store }) => {
    const { container } = await createPod(runtime);
    const envs = store.containers.get(container)?.config.envs;
    assertEquals(envs, [{ key: "TOKEN", value: new Uint8Array() }]);
    const { info } = containerStatusResponse(runtime, container, true);
    assertEquals(JSON.stringify(info).includes("secret"), false);
  }));

Deno.test("createContainer() makes another container when the attempt differs", () =>
  withRuntime(async ({ runtime, store }) => {
    const { pod, container } = await createPod(runtime);
    const metadata = { name: "main", attempt: 1 };
    const second = await createContainer(runtime, containerRequest(pod, { metadata }));
    assertEquals(store.containers.all().map(({ id }) => id), [container, second]);
  }));

const REFUSED: readonly [config: Partial<ContainerConfig>, code: string, words: string][] = [
  [{ metadata: undefined }, "INVALID_ARGUMENT", "without config.metadata.name"],
  [{ metadata: { name: "a\nb", attempt: 0 } }, "INVALID_ARGUMENT", 'name is "a\\nb"'],
  [
    { metadata: { name: "n".repeat(1025), attempt: 0 } },
    "INVALID_ARGUMENT",
    "must have 1024 characters at most",
  ],
  [{ metadata: { name: "", attempt: 0 } }, "INVALID_ARGUMENT", "without config.metadata.name"],
  [{ args: ["other"] }, "ALREADY_EXISTS", "with another configuration"],
  [
    { envs: [{ key: "TOKEN", value: new Uint8Array([1]) }] },
    "ALREADY_EXISTS",
    "with another configuration",
  ],
];

for (const [config, code, words] of REFUSED) {
  Deno.test(`createContainer() refuses ${JSON.stringify(config)} with a sentence`, () =>
    withRuntime(async ({ runtime, store }) => {
      const { pod } = await createPod(runtime);
      const create = () => createContainer(runtime, containerRequest(pod, config));
      const error = await assertRejects(create, CriError, words);
      assertEquals([error.code, store.containers.all().length], [code, 1]);
    }));
}

Deno.test("createContainer() makes the container when its image is removed meanwhile", () =>
  withRuntime(async ({ runtime, adapter, store }) => {
    const pod = await runPodSandbox(runtime, sandboxRequest(), NEVER);
    adapter.prepareContainer = () => {
      runtime.images.remove("perl");
      return Promise.resolve({});
    };
    const id = await createContainer(runtime, containerRequest(pod));
    assertEquals(store.containers.get(id)?.imageId, IMAGE_ID);
    await removeContainer(runtime, id, NEVER);
    assertEquals(store.images.all(), []);
  }));

Deno.test("createContainer() lets what was prepared be removed when no record can be written", () =>
  withRuntime(async ({ runtime, adapter, store }) => {
    const pod = await runPodSandbox(runtime, sandboxRequest(), NEVER);
    store.containers.put = () => {
      throw new Error("database or disk is full");
    };
    await assertRejects(
      () => createContainer(runtime, containerRequest(pod)),
      Error,
      "disk is full",
    );
    const [prepared, removed] = adapter.calls;
    assertEquals(removed, prepared?.replace("prepare", "remove"));
  }));

Deno.test("createContainer() leaves nothing when the sandbox or image is missing or the adapter refuses", () =>
  withRuntime(async ({ runtime, adapter, store }) => {
    const pod = await runPodSandbox(runtime, sandboxRequest(), NEVER);
    const missing = () => createContainer(runtime, containerRequest("missing"));
    assertEquals((await assertRejects(missing, CriError)).code, "NOT_FOUND");
    const request = containerRequest(pod);
    if (request.config?.image) request.config.image.image = "nowhere";
    const unpulled = () => createContainer(runtime, request);
    assertEquals((await assertRejects(unpulled, CriError, "pull it first")).code, "NOT_FOUND");
    adapter.failures.prepare = new CriError("UNIMPLEMENTED", "no volumes");
    await assertRejects(
      () => createContainer(runtime, containerRequest(pod)),
      CriError,
      "no volumes",
    );
    assertEquals(store.containers.all(), []);
  }));

Deno.test("startContainer() starts nothing in a stopped sandbox", () =>
  withRuntime(async ({ runtime, adapter }) => {
    const { pod, container } = await createPod(runtime);
    await stopPodSandbox(runtime, pod, NEVER);
    const start = () => startContainer(runtime, container, NEVER);
    assertEquals((await assertRejects(start, CriError)).code, "FAILED_PRECONDITION");
    assertEquals(adapter.calls.includes(`start ${container}`), false);
  }));

Deno.test("startContainer() starts once when it is called twice at a time", () =>
  withRuntime(async ({ runtime, adapter }) => {
    const { container } = await createPod(runtime);
    const gate = Promise.withResolvers<void>();
    adapter.startGate = gate.promise;
    const first = startContainer(runtime, container, NEVER);
    const second = assertRejects(() => startContainer(runtime, container, NEVER), CriError);
    gate.resolve();
    await first;
    assertEquals((await second).code, "FAILED_PRECONDITION");
    assertEquals(adapter.calls.filter((call) => call.startsWith("start")).length, 1);
  }));

const GRACES: readonly [seconds: bigint, ms: number][] = [
  [0n, 0],
  [30n, 30_000],
  [9_223_372_036_854_775_807n, 24 * 24 * 3600 * 1000],
];

for (const [seconds, ms] of GRACES) {
  Deno.test(`stopContainer() gives ${ms} ms when its timeout is ${seconds}`, () =>
    withRuntime(async ({ runtime, adapter }) => {
      const { container } = await createPod(runtime);
      await startContainer(runtime, container, NEVER);
      await stopContainer(runtime, container.slice(0, 13), seconds, NEVER);
      assertEquals(adapter.calls.at(-1), `stop ${container} ${ms}`);
    }));
}

Deno.test("stopContainer() refuses a negative timeout", () =>
  withRuntime(async ({ runtime }) => {
    const { container } = await createPod(runtime);
    const stop = () => stopContainer(runtime, container, -1n, NEVER);
    assertEquals((await assertRejects(stop, CriError, "not -1")).code, "INVALID_ARGUMENT");
  }));

Deno.test("removeContainer() keeps the record while the adapter cannot remove", () =>
  withRuntime(async ({ runtime, adapter, store }) => {
    const { container } = await createPod(runtime);
    store.logPositions.put({
      id: container,
      stdoutBytes: 1,
      stderrBytes: 0,
      fileBytes: 9,
      fileInode: 1,
    });
    adapter.failures.remove = new CriError("UNAVAILABLE", "away");
    await assertRejects(() => removeContainer(runtime, container, NEVER), CriError, "away");
    assertEquals(store.containers.get(container)?.id, container);
    delete adapter.failures.remove;
    await removeContainer(runtime, container, NEVER);
    assertEquals([store.containers.all(), store.logPositions.all()], [[], []]);
  }));

Deno.test("removeContainer() ends a container whose start it met", () =>
  withRuntime(async ({ runtime, adapter, store }) => {
    const { container } = await createPod(runtime);
    const gate = Promise.withResolvers<void>();
    adapter.startGate = gate.promise;
    const removed = removeContainer(runtime, container, NEVER);
    const started = startContainer(runtime, container, NEVER);
    gate.resolve();
    await Promise.allSettled([removed, started]);
    const [last, before] = adapter.calls.toReversed();
    assertEquals([before, last], [`stop ${container} 0`, `remove ${container}`]);
    assertEquals(store.containers.all(), []);
  }));

Deno.test("containerStatusResponse() tells everything the kubelet reads", () =>
  withRuntime(async (test) => {
    const { runtime, adapter, clock } = test;
    const pod = await runPodSandbox(runtime, sandboxRequest(), NEVER);
    const created = BigInt(clock.now()) * 1_000_000n;
    const id = await createContainer(
      runtime,
      containerRequest(pod, {
        image: {
          image: IMAGE_ID,
          annotations: {},
          userSpecifiedImage: "multicri/docker-repository.perl",
          imageRef: "",
          runtimeHandler: "",
        },
        labels: { l: "1" },
        annotations: { a: "2" },
      }),
    );
    const status = () => containerStatusResponse(runtime, id, false).status;
    assertEquals(status()?.state, ContainerState.CONTAINER_CREATED);
    assertEquals([status()?.createdAt, status()?.startedAt], [created, 0n]);
    clock.advance(1);
    await startContainer(runtime, id, NEVER);
    assertEquals(status()?.state, ContainerState.CONTAINER_RUNNING);
    assertEquals([status()?.startedAt, status()?.finishedAt], [created + 1_000_000n, 0n]);
    clock.advance(1);
    adapter.exit(id, 7);
    const ended = status();
    assertEquals(ended?.state, ContainerState.CONTAINER_EXITED);
    assertEquals([ended?.exitCode, ended?.reason, ended?.message], [7, "Error", "it ended"]);
    assertEquals(ended?.finishedAt, created + 2_000_000n);
    assertEquals(ended?.image?.image, "multicri/docker-repository.perl");
    assertEquals([ended?.imageRef, ended?.imageId], [IMAGE_ID, IMAGE_ID]);
    assertEquals(ended?.stopSignal, Signal.SIGNAL_SIGTERM);
    assertEquals(ended?.logPath, "/logs/main/0.log");
    assertEquals(ended?.metadata, { name: "main", attempt: 0 });
    assertEquals([ended?.labels, ended?.annotations], [{ l: "1" }, { a: "2" }]);
  }));

Deno.test("containerStatusResponse() shows what the adapter knows when verbose", () =>
  withRuntime(async ({ runtime }) => {
    const { pod, container } = await createPod(runtime);
    const { info } = containerStatusResponse(runtime, container, true);
    assertEquals(JSON.parse(info["info"] ?? ""), {
      sandboxID: pod,
      adapter: "test",
      workload: { prepared: true },
    });
    const missing = () => containerStatusResponse(runtime, "missing", true);
    assertStringIncludes(assertThrows(missing, CriError).message, "'missing'");
  }));

const DIGEST = `sha256:${"d".repeat(64)}`;
const OTHER = `sha256:${"e".repeat(64)}`;

for (
  const [asked, imageRef] of [
    ["one/perl:5", `one/perl@${DIGEST}`],
    ["two/perl", `two/perl@${DIGEST}`],
    [`two/perl@${OTHER}`, `two/perl@${OTHER}`],
    ["three/perl", `one/perl@${DIGEST}`],
  ] as const
) {
  Deno.test(`containerStatusResponse() tells the digest of an image asked for as ${asked}, also when it was removed`, () =>
    withRuntime(async ({ runtime, store }) => {
      const repoDigests = [`one/perl@${DIGEST}`, `two/perl@${DIGEST}`, `two/perl@${OTHER}`];
      store.images.put(imageRecord({ repoDigests }));
      const pod = await runPodSandbox(runtime, sandboxRequest(), NEVER);
      const image = ImageSpec.fromPartial({ image: IMAGE_ID, userSpecifiedImage: asked });
      const id = await createContainer(runtime, containerRequest(pod, { image }));
      runtime.images.remove(IMAGE_ID);
      const { status } = containerStatusResponse(runtime, id, false);
      assertEquals([status?.imageRef, status?.imageId], [imageRef, IMAGE_ID]);
      assertEquals(listContainers(runtime, undefined)[0]?.imageRef, IMAGE_ID);
    }));
}

const { CONTAINER_CREATED, CONTAINER_RUNNING, CONTAINER_EXITED } = ContainerState;

Deno.test("listContainers() lists what the filter asks for", () =>
  withRuntime(async ({ runtime }) => {
    const pod = await runPodSandbox(runtime, sandboxRequest(), NEVER);
    const create = (name: string, labels: Record<string, string>) =>
      createContainer(runtime, containerRequest(pod, { metadata: { name, attempt: 0 }, labels }));
    const first = await create("first", { app: "a", constructor: "x" });
    const second = await create("second", { app: "a" });
    await startContainer(runtime, second, NEVER);
    const cases: [filter: Parameters<typeof ContainerFilter.fromPartial>[0], ids: string[]][] = [
      [{}, [first, second]],
      [{ id: first }, [first]],
      [{ id: second.slice(0, 13) }, [second]],
      [{ podSandboxId: pod.slice(0, 13) }, [first, second]],
      [{ podSandboxId: "zz" }, []],
      [{ state: { state: CONTAINER_CREATED } }, [first]],
      [{ state: { state: CONTAINER_RUNNING } }, [second]],
      [{ state: { state: CONTAINER_EXITED } }, []],
      [{ labelSelector: { app: "a" } }, [first, second]],
      [{ labelSelector: { constructor: "x" } }, [first]],
      [{ labelSelector: { app: "a" }, state: { state: CONTAINER_RUNNING } }, [second]],
    ];
    for (const [filter, ids] of cases) {
      const listed = listContainers(runtime, ContainerFilter.fromPartial(filter));
      assertEquals(listed.map(({ id }) => id), ids);
    }
    assertEquals(listContainers(runtime, undefined).length, 2);
  }));
