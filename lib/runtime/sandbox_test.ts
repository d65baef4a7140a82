import { assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { CriError } from "../base/error.ts";
import { NamespaceMode, PodSandboxFilter, PodSandboxState } from "../cri/api.generated.ts";
import { createContainer } from "./container_create.ts";
import { startContainer } from "./container_start.ts";
import { removePodSandbox } from "./sandbox_remove.ts";
import { runPodSandbox } from "./sandbox_run.ts";
import { listPodSandboxes, podSandboxStatus } from "./sandbox_status.ts";
import { stopPodSandbox } from "./sandbox_stop.ts";
import { containerRequest, createPod, NEVER, sandboxRequest, withRuntime } from "./test_runtime.ts";

type Request = Parameters<typeof sandboxRequest>[0];

const METADATA = { name: "pod", namespace: "ns", uid: "uid" };

Deno.test("runPodSandbox() returns the same id when it is repeated", () =>
  withRuntime(async ({ runtime, store }) => {
    const labels = { a: "1", b: "2" };
    const id = await runPodSandbox(
      runtime,
      sandboxRequest({ config: { metadata: METADATA, labels } }),
      NEVER,
    );
    const shuffled = { b: "2", a: "1" };
    assertEquals(
      await runPodSandbox(
        runtime,
        sandboxRequest({ config: { metadata: METADATA, labels: shuffled } }),
        NEVER,
      ),
      id,
    );
    assertEquals(store.sandboxes.all().length, 1);
  }));

const OTHER_PODS: Record<string, Request> = {
  "attempt": { config: { metadata: { ...METADATA, attempt: 1 } } },
  "name": { config: { metadata: { ...METADATA, name: "other" } } },
  "namespace": { config: { metadata: { ...METADATA, namespace: "other" } } },
  "uid": { config: { metadata: { ...METADATA, uid: "other" } } },
};

for (const [what, request] of Object.entries(OTHER_PODS)) {
  Deno.test(`runPodSandbox() runs another pod when its ${what} differs`, () =>
    withRuntime(async ({ runtime, store }) => {
      const id = await runPodSandbox(runtime, sandboxRequest(), NEVER);
      await stopPodSandbox(runtime, id, NEVER);
      const other = await runPodSandbox(runtime, sandboxRequest(request), NEVER);
      assertEquals(store.sandboxes.all().map((sandbox) => sandbox.id), [id, other]);
    }));
}

const REFUSED: readonly [request: Request, code: string, words: string][] = [
  [{ config: undefined }, "INVALID_ARGUMENT", "without config.metadata"],
  [{ config: {} }, "INVALID_ARGUMENT", "without config.metadata"],
  [{ config: { metadata: { ...METADATA, name: "" } } }, "INVALID_ARGUMENT", "must be set"],
  [{ config: { metadata: { ...METADATA, uid: "" } } }, "INVALID_ARGUMENT", "must be set"],
  [{ config: { metadata: { ...METADATA, name: "a\nb" } } }, "INVALID_ARGUMENT", 'name is "a\\nb"'],
  [{ config: { metadata: { ...METADATA, uid: "\x07" } } }, "INVALID_ARGUMENT", "whose uid is"],
  [
    { config: { metadata: { ...METADATA, namespace: "n".repeat(1025) } } },
    "INVALID_ARGUMENT",
    "must have 1024 characters at most",
  ],
  [{ runtimeHandler: "runc" }, "INVALID_ARGUMENT", "the runtime handler 'runc'"],
  [{ config: { metadata: METADATA, hostname: "h" } }, "ALREADY_EXISTS", "another configuration"],
  [{ runtimeHandler: "" }, "ALREADY_EXISTS", "another configuration"],
];

for (const [request, code, words] of REFUSED) {
  Deno.test(`runPodSandbox() refuses ${JSON.stringify(request)} with a sentence`, () =>
    withRuntime(async ({ runtime, store }) => {
      await runPodSandbox(runtime, sandboxRequest(), NEVER);
      const error = await assertRejects(
        () => runPodSandbox(runtime, sandboxRequest(request), NEVER),
        CriError,
        words,
      );
      assertEquals([error.code, store.sandboxes.all().length], [code, 1]);
    }));
}

Deno.test("runPodSandbox() refuses an attempt that was stopped", () =>
  withRuntime(async ({ runtime }) => {
    await stopPodSandbox(runtime, await runPodSandbox(runtime, sandboxRequest(), NEVER), NEVER);
    const error = await assertRejects(
      () => runPodSandbox(runtime, sandboxRequest(), NEVER),
      CriError,
      "was stopped",
    );
    assertEquals(error.code, "ALREADY_EXISTS");
  }));

Deno.test("runPodSandbox() lets the pod be removed when no record can be written", () =>
  withRuntime(async ({ runtime, adapter, store }) => {
    store.sandboxes.put = () => {
      throw new Error("no room");
    };
    await assertRejects(() => runPodSandbox(runtime, sandboxRequest(), NEVER), Error, "no room");
    assertEquals([adapter.removedSandboxes.length, store.sandboxes.all()], [1, []]);
  }));

Deno.test("stopPodSandbox() stops every container without grace and may be repeated", () =>
  withRuntime(async ({ runtime, adapter, store }) => {
    const { pod, container } = await createPod(runtime);
    await startContainer(runtime, container, NEVER);
    const second = await createContainer(
      runtime,
      containerRequest(pod, { metadata: { name: "second", attempt: 0 } }),
    );
    await stopPodSandbox(runtime, pod, NEVER);
    await stopPodSandbox(runtime, pod.slice(0, 12), NEVER);
    await stopPodSandbox(runtime, "missing", NEVER);
    assertEquals(store.sandboxes.get(pod)?.state, "notready");
    assertEquals(store.containers.get(container)?.state.phase, "exited");
    assertEquals(adapter.calls.includes(`stop ${container} 0`), true);
    const starting = () => startContainer(runtime, second, NEVER);
    assertEquals(
      (await assertRejects(starting, CriError, "not ready")).code,
      "FAILED_PRECONDITION",
    );
    const creating = () => createContainer(runtime, containerRequest(pod, { args: ["x"] }));
    assertEquals(
      (await assertRejects(creating, CriError, "not ready")).code,
      "FAILED_PRECONDITION",
    );
  }));

Deno.test("stopPodSandbox() also stops a container that is started while it stops another", () =>
  withRuntime(async ({ runtime, adapter, store }) => {
    const { pod, container } = await createPod(runtime);
    const second = await createContainer(
      runtime,
      containerRequest(pod, { metadata: { name: "second", attempt: 0 } }),
    );
    await startContainer(runtime, container, NEVER);
    const gate = Promise.withResolvers<void>();
    adapter.stopGate = gate.promise;
    const stopped = stopPodSandbox(runtime, pod, NEVER);
    while (!adapter.calls.includes(`stop ${container} 0`)) await Promise.resolve();
    await startContainer(runtime, second, NEVER);
    gate.resolve();
    await stopped;
    const phases = [container, second].map((id) => store.containers.get(id)?.state.phase);
    assertEquals([store.sandboxes.get(pod)?.state, ...phases], ["notready", "exited", "exited"]);
  }));

Deno.test("stopPodSandbox() leaves the sandbox ready while an end cannot be seen", () =>
  withRuntime(async ({ runtime, adapter, store }) => {
    const { pod, container } = await createPod(runtime);
    await startContainer(runtime, container, NEVER);
    adapter.failures.stop = new CriError("UNAVAILABLE", "cannot be seen");
    await assertRejects(() => stopPodSandbox(runtime, pod, NEVER), CriError, "cannot be seen");
    assertEquals(store.sandboxes.get(pod)?.state, "ready");
    await assertRejects(() => removePodSandbox(runtime, pod, NEVER), CriError, "cannot be seen");
    assertEquals(store.sandboxes.get(pod)?.state, "ready");
    delete adapter.failures.stop;
    await stopPodSandbox(runtime, pod, NEVER);
    assertEquals(store.sandboxes.get(pod)?.state, "notready");
  }));

Deno.test("removePodSandbox() stops and removes what is left and may be repeated", () =>
  withRuntime(async ({ runtime, adapter, store }) => {
    const { pod, container } = await createPod(runtime);
    await startContainer(runtime, container, NEVER);
    await removePodSandbox(runtime, pod, NEVER);
    await removePodSandbox(runtime, pod, NEVER);
    assertEquals([store.sandboxes.all(), store.containers.all()], [[], []]);
    assertEquals(adapter.calls.slice(-2), [`stop ${container} 0`, `remove ${container}`]);
    assertEquals([adapter.stoppedSandboxes, adapter.removedSandboxes], [[pod], [pod]]);
    const status = () => podSandboxStatus(runtime, pod, false);
    assertEquals(assertThrows(status, CriError).code, "NOT_FOUND");
  }));

Deno.test("podSandboxStatus() tells everything the kubelet reads", () =>
  withRuntime(async ({ runtime, clock }) => {
    const request = sandboxRequest({
      config: { metadata: METADATA, labels: { l: "1" }, annotations: { a: "2" } },
    });
    const id = await runPodSandbox(runtime, request, NEVER);
    await createContainer(runtime, containerRequest(id));
    const { status, containersStatuses, timestamp, info } = podSandboxStatus(runtime, id, false);
    assertEquals(status?.metadata, { ...METADATA, attempt: 0 });
    assertEquals([status?.state, status?.runtimeHandler], [
      PodSandboxState.SANDBOX_READY,
      "multicri",
    ]);
    assertEquals([status?.labels, status?.annotations], [{ l: "1" }, { a: "2" }]);
    assertEquals(status?.network?.ip, "192.0.2.1");
    assertEquals(status?.createdAt, BigInt(clock.now()) * 1_000_000n);
    assertEquals([containersStatuses.length, timestamp, info], [1, status?.createdAt, {}]);
  }));

Deno.test("podSandboxStatus() echoes the namespaces and names no address on the host's network", () =>
  withRuntime(async ({ runtime }) => {
    const namespaceOptions = { network: NamespaceMode.NODE, pid: NamespaceMode.CONTAINER };
    const id = await runPodSandbox(
      runtime,
      sandboxRequest({
        config: { metadata: METADATA, linux: { securityContext: { namespaceOptions } } },
      }),
      NEVER,
    );
    const { status } = await Promise.resolve(podSandboxStatus(runtime, id, false));
    assertEquals(status?.network?.ip, "");
    assertEquals(status?.linux?.namespaces?.options?.network, NamespaceMode.NODE);
    assertEquals(status?.linux?.namespaces?.options?.pid, NamespaceMode.CONTAINER);
  }));

Deno.test("podSandboxStatus() shows the configuration when verbose, large numbers too", () =>
  withRuntime(async ({ runtime }) => {
    const linux = {
      resources: { cpuShares: 2n, memoryLimitInBytes: 9_007_199_254_740_993n },
      securityContext: { runAsUser: { value: 1000n } },
    };
    const id = await runPodSandbox(
      runtime,
      sandboxRequest({ config: { metadata: METADATA, linux } }),
      NEVER,
    );
    const { info } = await Promise.resolve(podSandboxStatus(runtime, id, true));
    assertStringIncludes(info["info"] ?? "", "9007199254740993");
    assertEquals(JSON.parse(info["info"] ?? "").adapter, "test");
  }));

const { SANDBOX_READY, SANDBOX_NOTREADY } = PodSandboxState;

Deno.test("listPodSandboxes() lists what the filter asks for", () =>
  withRuntime(async ({ runtime }) => {
    const run = (name: string, labels: Record<string, string>) =>
      runPodSandbox(
        runtime,
        sandboxRequest({ config: { metadata: { ...METADATA, name }, labels } }),
        NEVER,
      );
    const first = await run("first", { app: "a", constructor: "x" });
    const second = await run("second", { app: "a" });
    await stopPodSandbox(runtime, second, NEVER);
    const cases: [filter: Parameters<typeof PodSandboxFilter.fromPartial>[0], ids: string[]][] = [
      [{}, [first, second]],
      [{ id: first }, [first]],
      [{ id: second.slice(0, 13) }, [second]],
      [{ id: "zz" }, []],
      [{ state: { state: SANDBOX_READY } }, [first]],
      [{ state: { state: SANDBOX_NOTREADY } }, [second]],
      [{ labelSelector: { app: "a" } }, [first, second]],
      [{ labelSelector: { constructor: "x" } }, [first]],
      [{ labelSelector: { app: "a" }, state: { state: SANDBOX_NOTREADY } }, [second]],
      [{ id: first, state: { state: SANDBOX_NOTREADY } }, []],
    ];
    for (const [filter, ids] of cases) {
      const listed = listPodSandboxes(runtime, PodSandboxFilter.fromPartial(filter));
      assertEquals(listed.map(({ id }) => id), ids);
    }
    assertEquals(listPodSandboxes(runtime, undefined).length, 2);
  }));
