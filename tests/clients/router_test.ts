/** Two real containerds and Slurm behind one socket: agreement, and runtimes that die within a call. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { delay } from "@std/async/delay";
import {
  ContainerEventResponse,
  ContainerEventType,
  GetEventsRequest,
} from "../../lib/cri/api.generated.ts";
import { TestClient } from "../../lib/server/test_client.ts";
import { type Containerd, startContainerd } from "../../scripts/lab/containerd.ts";
import { pushCritestImages } from "../../scripts/lab/critest_images.ts";
import { Lab } from "../../scripts/lab/lab.ts";
import { NodeServer } from "../../scripts/lab/node_server.ts";
import { containerRequest, CriClient, IMAGE, type Pod } from "../cri_client.ts";
import { prepareLab, until } from "./pods.ts";

const RECONNECT_MS = 1_300;
const HANDLERS = ["", "second", "runc", "multicri"];

const lab = new Lab();

/** What a test works with. */
interface Node {
  containerd: Containerd;
  second: Containerd;
  server: NodeServer;
  client: CriClient;
}

/** Starts two containerds and the server before them, and ends them without their pods. */
async function withRuntimes(use: (node: Node) => Promise<void>): Promise<void> {
  await prepareLab(lab);
  await pushCritestImages(lab, () => {});
  const containerd = await startContainerd(lab);
  const second = await startContainerd(lab, () => {}, "second");
  const server = new NodeServer(lab, {
    name: "router",
    ownLogin: true,
    flags: [
      "--remote-runtime-endpoints",
      `default:${containerd.socketPath},second:unix://${second.socketPath}`,
      "--runtime-handlers",
      "runc=second/runc",
    ],
  });
  const client = new CriClient(lab.path("knode", server.socketPath));
  try {
    await server.forget();
    await server.start();
    await use({ containerd, second, server, client });
    assertEquals(await client.pods({}), [], "a pod was left");
  } finally {
    client.close();
    await server.stop();
    await second.stop();
    await containerd.stop();
    // grpc-js tries for a second more, also when its client was closed.
    await delay(RECONNECT_MS);
  }
}

/** A pod with a running container in the runtime of a handler. */
async function run(
  client: CriClient,
  runtimeHandler: string,
  script: string,
): Promise<{ pod: Pod; id: string }> {
  const config = client.podConfig();
  const { podSandboxId } = await client.call("runPodSandbox", { config, runtimeHandler });
  const pod = { id: podSandboxId, config };
  const image = { image: IMAGE, userSpecifiedImage: IMAGE };
  const { imageRef } = await client.call("pullImage", { image, sandboxConfig: config });
  const { containerId } = await client.call(
    "createContainer",
    containerRequest(pod, script, { image: { ...image, image: imageRef } }),
  );
  await client.call("startContainer", { containerId });
  return { pod, id: containerId };
}

async function remove(client: CriClient, podSandboxId: string): Promise<void> {
  await client.call("stopPodSandbox", { podSandboxId });
  await client.call("removePodSandbox", { podSandboxId });
}

const lines = (text: string) => text.split("\n").filter((line) => line !== "").sort();

Deno.test("crictl shows the same containers, pods and images through multicri and on both sides of it", () =>
  withRuntimes(async ({ containerd, second, server, client }) => {
    const made = [];
    for (const handler of HANDLERS) made.push(await run(client, handler, "sleep 600"));
    for (const list of [["ps", "-aq", "--no-trunc"], ["pods", "-q", "--no-trunc"]]) {
      const through = lines(await server.crictlOk(list));
      const direct = await Promise.all([containerd, second].map(({ crictl }) => crictl.ok(list)));
      const own = through.filter((id) => !direct.some((text) => text.includes(id)));
      assertEquals([...direct.flatMap(lines), ...own].sort(), through);
      assertEquals([through.length, own.length], [4, 1]);
      assertEquals(direct.map((text) => lines(text).length), [1, 2]);
    }
    const images = lines(await server.crictlOk(["images", "-q", "--no-trunc"]));
    assertEquals(new Set(images).size, images.length, "two images have one id");
    for (const { pod, id } of made) {
      assertEquals((await client.status(id)).id, id);
      await remove(client, pod.id);
    }
    assertEquals(await server.crictlOk(["ps", "-aq"]), "");
  }));

Deno.test("an ExecSync fails with the runtime's name when that is killed, and its pods live on", () =>
  withRuntimes(async ({ containerd, client }) => {
    const { pod, id } = await run(client, "", "sleep 600");
    const other = await run(client, "second", "sleep 600");
    const exec = (containerId: string, ...cmd: string[]) =>
      client.call("execSync", { containerId, cmd, timeout: 0n });
    const failing = assertRejects(() => exec(id, "sleep", "60"), Error);
    await delay(500);
    await containerd.kill();
    assertStringIncludes((await failing).message, "'default'");
    // Its entries stay, and its calls fail; the other runtime's do not.
    assertEquals((await client.pods({})).sort(), [pod.id, other.pod.id].sort());
    assertEquals(await client.state(id), "CONTAINER_RUNNING");
    assertEquals(await client.outcome("containerStatus", { containerId: id }), "UNAVAILABLE");
    assertEquals((await exec(other.id, "echo", "on")).exitCode, 0);
    await remove(client, other.pod.id);
    await containerd.restart();
    await until(async () => assertEquals((await exec(id, "echo", "back")).exitCode, 0));
    assertEquals(await client.state(id), "CONTAINER_RUNNING");
    await remove(client, pod.id);
  }));

Deno.test("a PullImage is given up when the runtime hangs, and lists go on", () =>
  withRuntimes(async ({ containerd, client }) => {
    await containerd.signal("SIGSTOP");
    const { pod } = await run(client, "second", "sleep 600");
    assertEquals(await client.outcome("pullImage", { image: { image: IMAGE } }), "UNAVAILABLE");
    assertEquals(await client.pods({}), [pod.id]);
    const { status } = await client.call("status");
    const broken = status?.conditions.filter(({ status }) => !status).map(({ type }) => type);
    assertEquals(broken, ["RuntimeReady/default"]);
    await containerd.signal("SIGCONT");
    await until(() => client.call("pullImage", { image: { image: IMAGE } }));
    await remove(client, pod.id);
  }));

Deno.test("a PullImage fails at once when the runtime is killed within it", () =>
  withRuntimes(async ({ containerd, client }) => {
    const registry = (signal: string) => lab.exec("registry", ["pkill", signal, "docker-registry"]);
    await registry("-STOP");
    try {
      const pulling = client.outcome("pullImage", { image: { image: IMAGE } });
      // The runtime waits for the registry meanwhile.
      await delay(1_000);
      await containerd.kill();
      assertEquals(await pulling, "UNAVAILABLE");
    } finally {
      await registry("-CONT");
    }
    await containerd.restart();
    await until(() => client.call("pullImage", { image: { image: IMAGE } }));
  }));

Deno.test("a stream of events outlives the runtime, and tells what was missed", () =>
  withRuntimes(async ({ containerd, server, client }) => {
    const events = new TestClient(lab.path("knode", server.socketPath));
    const stream = events.stream("GetContainerEvents", GetEventsRequest.encode({}).finish());
    const seen: string[] = [];
    const ended = Promise.withResolvers<void>();
    stream.on("data", (bytes: Uint8Array) => {
      const { containerId, containerEventType } = ContainerEventResponse.decode(bytes);
      seen.push(`${containerId} ${ContainerEventType[containerEventType]}`);
    });
    stream.on("error", () => ended.resolve());
    const told = (id: string) =>
      seen.filter((line) => line.startsWith(id)).map((line) => line.slice(65));
    const untilTold = (id: string, types: string[]) =>
      until(() =>
        Promise.resolve(assertEquals(told(id), types.map((type) => `CONTAINER_${type}_EVENT`)))
      );
    try {
      // The subscription is taken when the first events come.
      await delay(1_000);
      const { pod, id } = await run(client, "", "while ! [ -e /tmp/end ]; do sleep 0.1; done");
      await untilTold(id, ["CREATED", "STARTED"]);
      await client.call("execSync", {
        containerId: id,
        cmd: ["sh", "-c", "(sleep 3; touch /tmp/end) >/dev/null 2>&1 &"],
      });
      await containerd.kill();
      const other = await run(client, "second", "exit 0");
      await untilTold(other.id, ["CREATED", "STARTED", "STOPPED"]);
      // It ends while nobody looks.
      await delay(5_000);
      assertEquals(told(id).length, 2);
      await containerd.restart();
      await untilTold(id, ["CREATED", "STARTED", "STOPPED"]);
      await remove(client, pod.id);
      await untilTold(id, ["CREATED", "STARTED", "STOPPED", "DELETED"]);
      await untilTold(pod.id, ["CREATED", "STARTED", "STOPPED", "DELETED"]);
      await remove(client, other.pod.id);
      assert(seen.length === new Set(seen).size, `told twice: ${seen.sort().join("\n")}`);
    } finally {
      stream.cancel();
      await ended.promise;
      events.close();
    }
  }));
