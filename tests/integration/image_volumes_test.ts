/** Images as volumes of containers on the node itself. */
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { type DeepPartial, type Mount, NamespaceMode } from "../../lib/cri/api.generated.ts";
import { pushLayout } from "../../scripts/lab/images.ts";
import { packLayer, writeLayout } from "../../scripts/lab/oci_layout.ts";
import { prepareNode } from "../../scripts/lab/node_server.ts";
import { lab, logged, onNode } from "../on_node.ts";
import type { CriClient } from "../cri_client.ts";

const NAME = "lab/data:1";
const DATA = `docker.io/${NAME}`;
const MODEL = "x".repeat(100_000);

Deno.test.beforeAll(async () => {
  await prepareNode(lab, () => {});
  // Files alone, as models are packed: no shell, no users.
  const layer = await packLayer([
    { path: "models", mode: 0o755, type: "directory" },
    { path: "models/large", mode: 0o600, type: "file", content: MODEL },
    { path: "models/small", mode: 0o644, type: "file", content: "small" },
    { path: "latest", type: "symlink", target: "/models" },
    { path: "out", type: "symlink", target: "../../../../../../../../etc" },
  ]);
  const layout = [{ name: NAME, layers: [layer], config: {} }];
  const folder = "/tmp/data-image";
  await writeLayout(lab.path("registry", folder), layout);
  await pushLayout(layout, folder, async (argv) => {
    assertEquals((await lab.exec("registry", argv)).code, 0);
  });
  await lab.exec("registry", ["rm", "-rf", folder]);
});

/** Pulls the image as a kubelet does, which names it by its id from then on. */
async function pull(client: CriClient): Promise<string> {
  return (await client.call("pullImage", { image: { image: DATA } })).imageRef;
}

const range = [{ hostId: 1_000_000, containerId: 0, length: 65_536 }];
const USERS: Record<string, DeepPartial<{ usernsOptions: unknown }>> = {
  "the node's users": {},
  "users of its own": { usernsOptions: { mode: NamespaceMode.POD, uids: range, gids: range } },
};

for (const [users, namespaceOptions] of Object.entries(USERS)) {
  Deno.test(`a container with ${users} sees images and parts of them, read-only`, () =>
    onNode(async ({ server, client }) => {
      const image = { image: await pull(client) };
      const file = image.image.replace("sha256:", "");
      const isInPool = async () =>
        (await lab.exec("knode", ["test", "-e", `${server.cachePath}/sif/${file}.sif`])).code === 0;
      const linux = { securityContext: { namespaceOptions } };
      const pod = await client.runPod(client.podConfig({ linux }));
      const script = `cat /whole/models/small /part/small; wc -c </whole/models/large
stat -c '%u %a' /part/large
touch /whole/x /part/small 2>&1; cat /file`;
      const id = await client.create(pod, script, {
        linux,
        mounts: [
          { containerPath: "/whole", image, readonly: true },
          { containerPath: "/part", image, imageSubPath: "latest", readonly: true },
          { containerPath: "/file", image, imageSubPath: "models/../models/small", readonly: true },
        ],
      });
      // A removed image stays while it is a volume.
      await client.call("removeImage", { image });
      assert(await isInPool());
      await client.call("startContainer", { containerId: id });
      const { mounts, exitCode } = await client.exited(id);
      assertEquals([exitCode, mounts[0]?.image?.image], [0, image.image]);
      const text = await logged(pod, "stdout");
      assertMatch(
        text,
        /^smallsmall100000\n0 600\n.*Read-only file system\n.*Read-only file system\nsmall\n$/,
      );
      await client.call("removePodSandbox", { podSandboxId: pod.id });
      assert(!await isInPool());
    }));
}

Deno.test("an image stays mounted for a container that has it as a volume when the server is killed", () =>
  onNode(async ({ server, client }) => {
    const image = { image: await pull(client) };
    const pod = await client.runPod();
    const script = "until [ -e /go ]; do sleep 0.1; done; cat /v/models/small";
    const mounts = [{ containerPath: "/v", image, readonly: true }];
    const id = await client.create(pod, script, { mounts });
    await client.call("startContainer", { containerId: id });
    await client.call("removeImage", { image });
    await server.kill();
    await server.start();
    const folder = `${server.rootDir}/images/${image.image.replace("sha256:", "")}/rootfs/models`;
    assertEquals((await lab.exec("knode", ["ls", folder])).stdout, "large\nsmall\n");
    await lab.exec("knode", ["touch", `${server.rootDir}/containers/${id}/rootfs/go`]);
    assertEquals((await client.exited(id)).exitCode, 0);
    assertEquals(await logged(pod, "stdout"), "small\n");
    await client.call("removeContainer", { containerId: id });
    const again = client.create(pod, "true", { mounts });
    await assertRejects(() => again, Error, "it is not here, pull it first");
  }));

const REFUSED: Record<string, { mount: DeepPartial<Mount>; message: RegExp }> = {
  "a part that the image does not have": {
    mount: { imageSubPath: "no/such" },
    message: /ImageVolumeMountFailed: Cannot mount the image .* at "\/v": it has no "no\/such"\.$/,
  },
  "a part that is a link out of the image": {
    mount: { imageSubPath: "out/passwd" },
    message: /the path in it, "out\/passwd", must be relative, and neither/,
  },
  "a path out of the image": {
    mount: { imageSubPath: "models/../../.." },
    message: /the path in it, "models\/..\/..\/..", must be relative, and neither/,
  },
  "an absolute path": {
    mount: { imageSubPath: "/models" },
    message: /the path in it, "\/models", must be relative, and neither/,
  },
  "a path of the node beside the image": {
    mount: { hostPath: "/etc" },
    message: /it must have no host path/,
  },
  "an image to write into": {
    mount: { readonly: false },
    message: /it must be read-only, as images do not change/,
  },
  "an image that was not pulled": {
    mount: { image: { image: "docker.io/lab/no-such:1" } },
    message: /Cannot use the image 'docker.io\/lab\/no-such:1': it is not here/,
  },
};

Deno.test("image volumes that cannot be are refused with a sentence, and leave nothing", () =>
  onNode(async ({ client }) => {
    const image = { image: await pull(client) };
    const pod = await client.runPod();
    for (const { mount, message } of Object.values(REFUSED)) {
      const mounts = [{ containerPath: "/v", image, readonly: true, ...mount }];
      const error = await assertRejects(() => client.create(pod, "true", { mounts }), Error);
      assertMatch(error.message, message);
    }
  }));
