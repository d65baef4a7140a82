import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { until } from "../base/test_until.ts";
import { ContainerState } from "../cri/api.generated.ts";
import { failure, pod, REMOTES, runContainer, runPod } from "./test_pods.ts";
import { withNode } from "./test_runtime.ts";

Deno.test("unary() keeps a dead runtime's entries in the lists, filtered too, and across restarts", () =>
  withNode(REMOTES, async (node) => {
    const sandboxes = [await runPod(node, "one"), await runPod(node, "two", "extra")];
    const containers: string[] = [];
    for (const sandbox of sandboxes) containers.push(await runContainer(node, sandbox, "x"));
    await node.call("startContainer", { containerId: containers[1] ?? "" });
    const known = async (expected: number) =>
      (await node.call("listContainers")).containers.length === expected;
    await until(() => known(2));
    await node.remote("extra").down();
    for (let process = 0; process < 2; process++) {
      const { items } = await node.call("listPodSandbox");
      assertEquals(items.map(({ id }) => id).sort(), sandboxes.toSorted());
      const list = async (filter: Record<string, unknown>) =>
        (await node.call("listContainers", { filter })).containers.map(({ id }) => id);
      const dead = containers[1] ?? "";
      const { CONTAINER_EXITED, CONTAINER_RUNNING } = ContainerState;
      assertEquals(await list({ id: dead.slice(0, 9) }), [dead]);
      assertEquals(await list({ podSandboxId: sandboxes[1] ?? "" }), [dead]);
      assertEquals(await list({ state: { state: CONTAINER_EXITED }, id: dead }), []);
      assertEquals(await list({ state: { state: CONTAINER_RUNNING }, id: dead }), [dead]);
      assertEquals(await list({ labelSelector: { app: "y" }, id: dead }), []);
      const error = await failure(node.call("containerStatus", { containerId: dead }));
      assertEquals(error.code, "UNAVAILABLE");
      assertStringIncludes(error.message, "'extra'");
      const { status } = await node.call("status");
      const condition = (type: string) =>
        status?.conditions.find((one) => one.type === type)?.status;
      await until(async () =>
        (await node.call("status")).status?.conditions
          .some(({ type, status }) => type === "RuntimeReady/extra" && !status) === true
      );
      assertEquals([condition("RuntimeReady"), condition("NetworkReady")], [true, true]);
      await node.restart();
    }
    // Of what nobody here knows, the dead one may know: the answer must wait for it.
    const unknown = await failure(node.call("removeContainer", { containerId: "f".repeat(64) }));
    assertEquals(unknown.code, "UNAVAILABLE");
    await node.remote("extra").up();
    await until(() =>
      node.call("containerStatus", { containerId: containers[1] ?? "" }).then(
        () => true,
        () => false,
      )
    );
    await node.call("removeContainer", { containerId: containers[1] ?? "" });
    await until(() => known(1));
  }));

Deno.test("unary() answers for the node while the default runtime is away from the start", () =>
  withNode(REMOTES, async (node) => {
    assertEquals((await node.call("runtimeConfig")).linux?.cgroupDriver, 0);
    assertEquals((await node.call("listPodSandbox")).items, []);
    assertEquals((await failure(node.call("imageFsInfo"))).code, "UNAVAILABLE");
    const { status, features } = await node.call("status");
    assert(
      status?.conditions.some(({ type, status }) => type === "RuntimeReady/default" && !status),
    );
    assertEquals(features, undefined);
    const error = await failure(node.call("runPodSandbox", pod("one")));
    assertEquals(error.code, "UNAVAILABLE");
    const id = await runPod(node, "two", "multicri");
    assertEquals((await node.call("podSandboxStatus", { podSandboxId: id })).status?.id, id);
  }, { up: ["extra"] }));

Deno.test("unary() gives a list with what was last known of a runtime when that hangs", () =>
  withNode(REMOTES, async (node) => {
    const sandbox = await runPod(node, "one");
    await until(async () => (await node.call("listPodSandbox")).items.length === 1);
    const released = Promise.withResolvers<void>();
    const { gates } = node.remote("default").runtime;
    for (const key of ["listPodSandbox", "status"] as const) gates[key] = released.promise;
    await node.remote("default").down();
    await node.remote("default").up();
    const { items } = await node.call("listPodSandbox").finally(() => released.resolve());
    assertEquals(items.map(({ id }) => id), [sandbox]);
  }, { heartbeat: { everyMs: 50, hangingAfterMs: 300 } }));

Deno.test("unary() waits for the list of a runtime that is slow and tells its status", () =>
  withNode(REMOTES, async (node) => {
    const { gates } = node.remote("default").runtime;
    await node.remote("default").down();
    gates.listPodSandbox = new Promise((resolve) => setTimeout(resolve, 1_500));
    await node.remote("default").up();
    await until(async () =>
      (await node.call("status")).status?.conditions
        .some(({ type, status }) => type === "RuntimeReady/default" && status) === true
    );
    const sandbox = await runPod(node, "one");
    assertEquals((await node.call("listPodSandbox")).items.map(({ id }) => id), [sandbox]);
  }, { heartbeat: { everyMs: 50, hangingAfterMs: 300 } }));

Deno.test("unary() remembers what a kubelet lists, whose filter is there and empty", () =>
  withNode(REMOTES, async (node) => {
    const container = await runContainer(node, await runPod(node, "one"));
    const { runtime } = node.remote("default");
    runtime.changes.listContainerStats = () =>
      Promise.resolve({ stats: [{ attributes: { id: container } }] });
    await node.remote("default").down();
    await node.remote("default").up();
    const state = async () =>
      (await node.call("listContainers", { filter: {} })).containers[0]?.state;
    await until(async () => await state() === ContainerState.CONTAINER_CREATED);
    await new Promise((resolve) => setTimeout(resolve, 300));
    const record = runtime.containers.get(container);
    if (record !== undefined) record.state = ContainerState.CONTAINER_EXITED;
    const stats = async () => (await node.call("listContainerStats", { filter: {} })).stats.length;
    assertEquals([await state(), await stats()], [ContainerState.CONTAINER_EXITED, 1]);
    await node.remote("default").down();
    assertEquals([await state(), await stats()], [ContainerState.CONTAINER_EXITED, 1]);
  }));

Deno.test("unary() lets the runtime of a removed pod answer for it, while another one is dead", () =>
  withNode(REMOTES, async (node) => {
    const podSandboxId = await runPod(node, "one", "multicri");
    await node.call("removePodSandbox", { podSandboxId });
    await node.remote("extra").down();
    await node.call("removePodSandbox", { podSandboxId });
    const error = await failure(node.call("podSandboxStatus", { podSandboxId }));
    assertEquals(error.code, "NOT_FOUND");
  }));

Deno.test("unary() knows a dead runtime's entries when the last process was killed", () =>
  withNode(REMOTES, async (node) => {
    const sandbox = await runPod(node, "one");
    const file = `${node.stateDir}/last-known-default.json`;
    const saved = async () => {
      const { lists } = JSON.parse(await Deno.readTextFile(file));
      return atob(lists.listPodSandbox).includes(sandbox);
    };
    await until(() => saved().catch(() => false));
    await Deno.copyFile(file, `${file}.copy`);
    await node.remote("default").down();
    await node.restart(() => Deno.rename(`${file}.copy`, file));
    assertEquals((await node.call("listPodSandbox")).items.map(({ id }) => id), [sandbox]);
  }));
