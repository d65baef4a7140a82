import { assertEquals, assertStringIncludes } from "@std/assert";
import { failure, pod, REMOTES, runContainer, runPod } from "./test_pods.ts";
import { imageId, imageRequest, withNode } from "./test_runtime.ts";

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
