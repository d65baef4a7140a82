import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { CriError } from "../base/error.ts";
import { until } from "../base/test_until.ts";
import { ContainerState } from "../cri/api.generated.ts";
import { methodOf, METHODS } from "../cri/service.ts";
import { RULES } from "./rules.ts";
import { CONTEXT, imageId, imageRequest, type TestNode, withNode } from "./test_runtime.ts";

/** Ids of the remotes "default", "extra" and "crio" begin with d, e and c; ours with 0. */
const REMOTES = ["default", "extra"];

const pod = (name: string, runtimeHandler = "") => ({
  config: { metadata: { name, namespace: "ns", uid: `uid-${name}`, attempt: 0 } },
  runtimeHandler,
});

async function runPod({ call }: TestNode, name: string, handler = ""): Promise<string> {
  return (await call("runPodSandbox", pod(name, handler))).podSandboxId;
}

async function runContainer(node: TestNode, podSandboxId: string, image = "a"): Promise<string> {
  const config = { metadata: { name: "main" }, image: { image }, labels: { app: image } };
  return (await node.call("createContainer", { podSandboxId, config })).containerId;
}

async function failure(work: Promise<unknown>): Promise<CriError> {
  return await assertRejects(() => work, CriError);
}

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

const IMAGES: [what: string, request: Record<string, unknown>, runtime: string][] = [
  ["it has only a name", { image: "perl" }, "default"],
  ["its name begins with multicri/", { image: "multicri/perl" }, "multicri"],
  [
    "its name begins with multicri/ and the pod says otherwise",
    { image: "multicri/perl", annotations: { "multicri.io/runtime-handler": "extra" } },
    "multicri",
  ],
  [
    "its pod is annotated",
    { image: "perl", annotations: { a: "b", "multicri.io/runtime-handler": "extra" } },
    "extra",
  ],
  ["its pod's handler is known", { image: "perl", runtimeHandler: "multicri" }, "multicri"],
  ["its pod's handler is mapped", { image: "perl", runtimeHandler: "kata" }, "extra"],
];
for (const [what, image, runtime] of IMAGES) {
  Deno.test(`unary() pulls an image in ${runtime} when ${what}`, () =>
    withNode(REMOTES, async (node) => {
      await node.call("pullImage", { image });
      const runtimes = [node.own, ...node.remotes.map(({ runtime }) => runtime)];
      assertEquals(runtimes.filter(({ calls }) => calls.length > 0).map(({ name }) => name), [
        runtime,
      ]);
    }, { flags: ["--runtime-handlers=kata=extra/kata"] }));
}

Deno.test("unary() pulls an image where its pod's sandbox is", () =>
  withNode(REMOTES, async (node) => {
    for (const handler of ["multicri", "extra", ""]) {
      const request = pod(`pod${handler}`, handler);
      await node.call("runPodSandbox", request);
      const { imageRef } = await node.call("pullImage", {
        image: { image: "perl" },
        sandboxConfig: request.config,
      });
      assertEquals(imageRef, `${imageId("perl")}${handler === "" ? "" : `@${handler}`}`);
    }
  }));

Deno.test("unary() keeps the ids of one image in two runtimes apart", () =>
  withNode(REMOTES, async (node) => {
    const id = imageId("perl");
    for (const runtimeHandler of ["multicri", "default", "extra"]) {
      await node.call("pullImage", imageRequest("perl", { runtimeHandler }));
    }
    const images = async () => (await node.call("listImages")).images.map(({ id }) => id).sort();
    assertEquals(await images(), [id, `${id}@extra`, `${id}@multicri`]);
    for (const image of [id, `${id}@extra`, `${id}@multicri`]) {
      assertEquals((await node.call("imageStatus", imageRequest(image))).image?.id, image);
    }
    // A container of each, and its image under the name that the lists have.
    const sandbox = await runPod(node, "one", "extra");
    const container = await runContainer(node, sandbox, `${id}@extra`);
    const extra = node.remote("extra").runtime;
    assertEquals(extra.calls.at(-1), `create ${id}`);
    const { status } = await node.call("containerStatus", { containerId: container });
    assertEquals([status?.imageId, status?.imageRef], [`${id}@extra`, "name@sha256:0"]);
    const { containers } = await node.call("listContainers");
    assertEquals(containers.map(({ imageId }) => imageId), [`${id}@extra`]);
    const { containersStatuses } = await node.call("podSandboxStatus", { podSandboxId: sandbox });
    assertEquals(containersStatuses.map(({ imageRef }) => imageRef), [`${id}@extra`]);
    await node.call("removeImage", imageRequest(`${id}@extra`));
    assertEquals(await images(), [id, `${id}@multicri`]);
    // As people type it: of whoever has it, and of nobody when several have it.
    const short = id.slice(7, 20);
    const error = await failure(node.call("removeImage", imageRequest(short)));
    assertStringIncludes(error.message, `${short}@default or ${short}@multicri`);
    await node.call("removeImage", imageRequest(`${short}@default`));
    assertEquals(await images(), [`${id}@multicri`]);
    await node.call("removeImage", imageRequest(short));
    assertEquals(await images(), []);
  }));

Deno.test("unary() says that an image's runtime is gone when it was taken from the configuration", () =>
  withNode(REMOTES, async (node) => {
    const error = await failure(node.call("imageStatus", imageRequest(`${imageId("perl")}@old`)));
    assertEquals(error.code, "INVALID_ARGUMENT");
    assertStringIncludes(error.message, "no runtime 'old'");
  }));

Deno.test("unary() creates a container of its runtime's own image when it is given another's id", () =>
  withNode(REMOTES, async (node) => {
    await node.call("pullImage", imageRequest("perl"));
    const podSandboxId = await runPod(node, "one", "extra");
    const create = (userSpecifiedImage: string) =>
      node.call("createContainer", {
        podSandboxId,
        config: {
          metadata: { name: "main" },
          image: { image: imageId("perl"), userSpecifiedImage },
        },
      });
    const error = await failure(create("perl"));
    assertEquals(error.code, "FAILED_PRECONDITION");
    assertStringIncludes(error.message, "multicri.io/runtime-handler");
    await node.call("pullImage", imageRequest("perl", { runtimeHandler: "extra" }));
    await create("perl");
    assertEquals(node.remote("extra").runtime.calls.at(-1), "create perl");
  }));

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

Deno.test("unary() tells an image's user, asked by name alone, of the runtime that a pod was told of", () =>
  withNode(REMOTES, async (node) => {
    const annotations = { "kubernetes.io/config.source": "api" };
    const chosen = { ...annotations, "multicri.io/runtime-handler": "extra" };
    const id = async (more: Record<string, unknown>) =>
      (await node.call("imageStatus", imageRequest("perl", more))).image?.id;
    await node.call("pullImage", imageRequest("perl", { annotations: chosen }));
    assertEquals(await id({ annotations: chosen }), `${imageId("perl")}@extra`);
    assertEquals(await id({}), `${imageId("perl")}@extra`);
    // A pod of the default runtime, which does not have it yet.
    assertEquals(await id({ annotations }), undefined);
    await node.call("pullImage", imageRequest("perl", { annotations }));
    assertEquals(await id({}), imageId("perl"));
    await node.remote("default").down();
    assertEquals(await id({ annotations: chosen }), `${imageId("perl")}@extra`);
    assertEquals(await id({}), `${imageId("perl")}@extra`);
    // Nobody was told of it in this process: whoever has it and answers.
    await node.restart();
    assertEquals(await id({}), `${imageId("perl")}@extra`);
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

Deno.test("unary() keeps the ids of images that are volumes apart too", () =>
  withNode(REMOTES, async (node) => {
    const id = `${imageId("data")}@extra`;
    const podSandboxId = await runPod(node, "one", "extra");
    const { containerId } = await node.call("createContainer", {
      podSandboxId,
      config: { metadata: { name: "main" }, mounts: [{ image: { image: id, imageRef: id } }] },
    });
    const { runtime } = node.remote("extra");
    const asked = runtime.containers.get(containerId)?.request.config?.mounts[0]?.image;
    assertEquals([asked?.image, asked?.imageRef], [imageId("data"), imageId("data")]);
    const { status } = await node.call("containerStatus", { containerId });
    assertEquals(status?.mounts[0]?.image?.image, id);
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
