import { assertEquals, assertStringIncludes } from "@std/assert";
import { CriError } from "../base/error.ts";
import { until } from "../base/test_until.ts";
import { methodOf, METHODS } from "../cri/service.ts";
import { RULES } from "./rules.ts";
import { failure, pod, REMOTES, runContainer, runPod } from "./test_pods.ts";
import { CONTEXT, withNode } from "./test_runtime.ts";

Deno.test("RULES sends exactly the streaming RPCs to streams", () => {
  const streams = METHODS.filter(({ key }) => ["listStream", "events"].includes(RULES[key].by));
  assertEquals(streams, METHODS.filter(({ responseStream }) => responseStream));
});

const HANDLERS: [
  handler: string,
  names: string[],
  flags: string[],
  digit: string,
  asked: string,
][] = [
  ["", REMOTES, [], "d", ""],
  ["", ["extra"], [], "0", ""],
  ["multicri", REMOTES, [], "0", "multicri"],
  ["default", REMOTES, [], "d", ""],
  ["extra", REMOTES, [], "e", ""],
  ["kata", REMOTES, ["--runtime-handlers=kata=extra/kata-qemu"], "e", "kata-qemu"],
  ["plain", REMOTES, ["--runtime-handlers=plain=default"], "d", ""],
];
for (const [handler, names, flags, digit, asked] of HANDLERS) {
  const name =
    `unary() runs a pod of the handler '${handler}' where ids begin with ${digit} when there are ${names}`;
  Deno.test(name, () =>
    withNode(names, async (node) => {
      const id = await runPod(node, "one", handler);
      assertEquals(id.charAt(0), digit);
      const runtimes = [node.own, ...node.remotes.map(({ runtime }) => runtime)];
      const calls = runtimes.flatMap(({ calls }) => calls);
      assertEquals(calls, [`run one '${asked}'`]);
    }, { flags }));
}

Deno.test("unary() refuses an unknown handler, naming the known ones", () =>
  withNode(REMOTES, async (node) => {
    const error = await failure(node.call("runPodSandbox", pod("one", "kata")));
    assertEquals(error.code, "INVALID_ARGUMENT");
    assertStringIncludes(error.message, "'', 'multicri', 'default', 'extra', 'k'");
  }, { flags: ["--runtime-handlers=k=extra"] }));

Deno.test("unary() finds containers and sandboxes by id, also in a new process and by an id's beginning", () =>
  withNode(REMOTES, async (node) => {
    const made = [];
    for (const handler of ["multicri", "default", "extra"]) {
      const sandbox = await runPod(node, handler, handler);
      made.push({ sandbox, container: await runContainer(node, sandbox) });
    }
    for (let process = 0; process < 2; process++) {
      for (const { sandbox, container } of made) {
        for (const length of [64, 12]) {
          const { status } = await node.call("podSandboxStatus", {
            podSandboxId: sandbox.slice(0, length),
          });
          assertEquals(status?.id, sandbox);
          const found = await node.call("containerStatus", {
            containerId: container.slice(0, length),
          });
          assertEquals(found.status?.id, container);
        }
      }
      await node.restart();
    }
  }));

Deno.test("unary() refuses the beginning of an id when two runtimes have such ids", () =>
  withNode(["default", "d2"], async (node) => {
    await runPod(node, "one", "default");
    await runPod(node, "two", "d2");
    const error = await failure(node.call("podSandboxStatus", { podSandboxId: "d001" }));
    assertEquals(error.code, "INVALID_ARGUMENT");
    assertStringIncludes(error.message, "2 ids begin like that");
  }));

Deno.test("unary() asks our own runtime for an id that nobody has, which answers as the protocol asks", () =>
  withNode(REMOTES, async (node) => {
    const error = await failure(node.call("containerStatus", { containerId: "f".repeat(64) }));
    assertEquals([error.code, error.message], ["NOT_FOUND", `multicri has no ${"f".repeat(64)}`]);
    await node.call("removeContainer", { containerId: "f".repeat(64) });
    assertEquals(node.own.calls, [`remove ${"f".repeat(64)}`]);
  }));

Deno.test("unary() passes a runtime's own errors on word for word", () =>
  withNode(REMOTES, async (node) => {
    const sandbox = await runPod(node, "one");
    node.remote("default").runtime.changes.createContainer = () => {
      throw new CriError("RESOURCE_EXHAUSTED", 'it says "no": 100 % full');
    };
    await node.remote("default").down();
    await node.remote("default").up();
    await until(() => node.call("listPodSandbox").then(({ items }) => items.length === 1));
    const create = () => failure(runContainer(node, sandbox));
    await until(async () => (await create()).code !== "UNAVAILABLE");
    const { code, message } = await create();
    assertEquals([code, message], ["RESOURCE_EXHAUSTED", 'it says "no": 100 % full']);
  }));

Deno.test("unary() joins the lists of all runtimes, and asks one when the filter names what it has", () =>
  withNode(REMOTES, async (node) => {
    const sandboxes = [];
    for (const handler of ["multicri", "default", "extra"]) {
      sandboxes.push(await runPod(node, handler, handler));
    }
    const listed = async (filter?: { id: string }) =>
      (await node.call("listPodSandbox", filter === undefined ? {} : { filter }))
        .items.map(({ id }) => id);
    assertEquals((await listed()).sort(), sandboxes.toSorted());
    for (const id of sandboxes) {
      assertEquals(await listed({ id }), [id]);
      assertEquals(await listed({ id: id.slice(0, 10) }), [id]);
    }
    assertEquals(await listed({ id: "fff" }), []);
    const { imageFilesystems } = await node.call("imageFsInfo");
    assertEquals(imageFilesystems.map(({ fsId }) => fsId?.mountpoint), [
      "/default",
      "/extra",
      "/multicri",
    ]);
    const { descriptors } = await node.call("listMetricDescriptors");
    assertEquals(descriptors.map(({ name }) => name), ["cpu", "default", "extra", "multicri"]);
  }));

Deno.test("unary() says of the node what each runtime says of itself", () =>
  withNode(REMOTES, async (node) => {
    const { status, runtimeHandlers, features } = await node.call("status");
    assertEquals(status?.conditions.map(({ type, status }) => [type, status]), [
      ["RuntimeReady", true],
      ["NetworkReady", true],
      ["RuntimeReady/default", true],
      ["NetworkReady/default", true],
      ["RuntimeReady/extra", true],
      ["NetworkReady/extra", true],
    ]);
    const shown = runtimeHandlers.map(({ name, features }) =>
      `${name}: ${features?.userNamespaces} ${features?.recursiveReadOnlyMounts}`
    );
    assertEquals(shown, [
      ": true false",
      "multicri: undefined undefined",
      "default: true false",
      "extra: false false",
      "kata: false true",
    ]);
    assertEquals(features?.supplementalGroupsPolicy, true);
    assertEquals((await node.call("runtimeConfig")).linux?.cgroupDriver, 1);
    assertEquals((await node.call("version")).runtimeName, "multicri");
  }, { flags: ["--runtime-handlers=kata=extra/kata"] }));

Deno.test("unary() tells every runtime the node's configuration, one that is away when it is back", () =>
  withNode(REMOTES, async (node) => {
    const update = { runtimeConfig: { networkConfig: { podCidr: "10.0.0.0/24" } } };
    await node.call("updateRuntimeConfig", update);
    const [up, away] = [node.remote("default"), node.remote("extra")];
    assertEquals([node.own.calls, up.runtime.calls], [["update 10.0.0.0/24"], [
      "update 10.0.0.0/24",
    ]]);
    assertEquals(away.runtime.calls, []);
    await away.up();
    await until(() => away.runtime.calls.length === 1);
    assertEquals(away.runtime.calls, ["update 10.0.0.0/24"]);
  }, { up: ["default"] }));

Deno.test("unary() asks nothing of runtimes that lack a call about the node", () =>
  withNode(REMOTES, async (node) => {
    for (const name of REMOTES) {
      const { changes } = node.remote(name).runtime;
      changes.runtimeConfig = undefined;
      changes.updateRuntimeConfig = undefined;
      await node.remote(name).down();
      await node.remote(name).up();
    }
    await node.restart();
    const error = await failure(node.call("runtimeConfig"));
    assertEquals(error.code, "UNIMPLEMENTED");
    await node.call("updateRuntimeConfig", {});
    assertEquals(node.own.calls, ["update "]);
  }));

Deno.test("serverStream() gives the lists of runtimes that have no streams", () =>
  withNode(REMOTES, async (node) => {
    const ids = [await runPod(node, "one"), await runPod(node, "two", "multicri")];
    const method = methodOf("streamPodSandboxes");
    const found: string[] = [];
    for await (const bytes of node.backend.serverStream(method, new Uint8Array(), CONTEXT)) {
      const { podSandboxes } = method.response.decode(bytes) as { podSandboxes: { id: string }[] };
      found.push(...podSandboxes.map(({ id }) => id));
    }
    assertEquals(found.sort(), ids.toSorted());
  }));
