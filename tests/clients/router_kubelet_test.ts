/** A real kubelet whose pods run in three runtimes at once, one of which dies for a while. */
import { assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import { type Containerd, startContainerd } from "../../scripts/lab/containerd.ts";
import { type ControlPlane, startControlPlane } from "../../scripts/lab/control_plane.ts";
import { Crictl } from "../../scripts/lab/crictl.ts";
import { pushCritestImages } from "../../scripts/lab/critest_images.ts";
import { Kubelet, NODE_NAME } from "../../scripts/lab/kubelet.ts";
import { Lab } from "../../scripts/lab/lab.ts";
import { NodeServer } from "../../scripts/lab/node_server.ts";
import {
  IMAGE,
  nothingLeft,
  pod,
  podSpec,
  prepareLab,
  RUN,
  untilGone,
  untilNoJobs,
  untilPod,
} from "./pods.ts";

/** A kubelet looks at its pods every second, and relists them every few. */
const KUBELET_LOOKS_MS = 15_000;

const PLAIN_IMAGE = "docker.io/lab/busybox:1";
const SCRIPT = "trap 'exit 0' TERM; echo up; while :; do sleep 0.2; done";

const lab = new Lab();
let containerd: Containerd;
let second: Containerd;
let server: NodeServer;
let plane: ControlPlane;
let kubelet: Kubelet;

async function setUp(): Promise<void> {
  await prepareLab(lab);
  await pushCritestImages(lab, () => {});
  containerd = await startContainerd(lab);
  second = await startContainerd(lab, () => {}, "second");
  server = new NodeServer(lab, {
    name: "router-kubelet",
    flags: [
      "--remote-runtime-endpoints",
      `default:${containerd.socketPath},second:${second.socketPath}`,
      "--runtime-handlers",
      "plain-runc=default/runc",
    ],
  });
  await server.forget();
  await server.start();
  plane = await startControlPlane(lab);
  kubelet = new Kubelet(lab, { socketPath: server.socketPath, controlPlane: plane });
  await kubelet.start();
  for (const handler of ["multicri", "second", "plain-runc"]) {
    const runtimeClass = {
      apiVersion: "node.k8s.io/v1",
      kind: "RuntimeClass",
      metadata: { name: handler },
      handler,
    };
    await plane.kubectlOk(["apply", "-f", "-"], JSON.stringify(runtimeClass));
  }
}

async function tearDown(): Promise<void> {
  await kubelet.remove();
  await plane.stop();
  const crictl = new Crictl(lab, server.socketPath);
  await crictl.removePods(await crictl.pods());
  await server.stop();
  await second.stop();
  await containerd.stop();
  await nothingLeft(lab);
}

/** Pods by what they ask for: the RuntimeClass, the image, and what the image's runtime is told by. */
const PODS: { [name: string]: { handler?: string; image: string; annotated?: true } } = {
  plain: { image: PLAIN_IMAGE },
  mapped: { handler: "plain-runc", image: PLAIN_IMAGE },
  // The default runtime has the image under this name too.
  second: { handler: "second", image: PLAIN_IMAGE, annotated: true },
  prefixed: { handler: "multicri", image: IMAGE },
  annotated: { handler: "multicri", image: PLAIN_IMAGE, annotated: true },
};
const DEFAULT_RUNTIMES = ["plain", "mapped"];

const nameOf = (name: string) => `${name}-${RUN}`;

function manifest(name: string): Record<string, unknown> {
  const { handler, image, annotated } = PODS[name] ?? { image: "" };
  const spec = podSpec(lab, [{ name: "main", script: SCRIPT, image }], {
    restartPolicy: "Always",
    nodeName: NODE_NAME,
    ...(handler === undefined ? {} : { runtimeClassName: handler }),
  });
  const found = pod(nameOf(name), spec);
  const metadata = found["metadata"] as Record<string, unknown>;
  if (annotated) metadata["annotations"] = { "multicri.io/runtime-handler": handler };
  return found;
}

/** What tells whether a container is still the same one. */
async function identity(name: string): Promise<unknown[]> {
  const found = await untilPod(
    kubelet,
    nameOf(name),
    "running",
    ({ status }) => status.containerStatuses?.[0]?.state.running !== undefined,
  );
  const [main] = found.status.containerStatuses ?? [];
  return [main?.containerID, main?.restartCount, main?.state.running?.startedAt];
}

async function identities(): Promise<Record<string, unknown[]>> {
  const list = await Promise.all(
    Object.keys(PODS).map(async (name) => [name, await identity(name)] as const),
  );
  return Object.fromEntries(list);
}

async function exec(name: string): Promise<string> {
  const { stdout, stderr } = await plane.kubectl(["exec", nameOf(name), "--", "echo", "in it"]);
  return (stdout + stderr).trim();
}

async function killOneRuntime(): Promise<void> {
  for (const name of Object.keys(PODS)) {
    await plane.kubectlOk(["apply", "-f", "-"], JSON.stringify(manifest(name)));
  }
  const before = await identities();
  for (const name of [...DEFAULT_RUNTIMES, "second"]) assertEquals(await exec(name), "in it");

  await containerd.kill();
  await delay(KUBELET_LOOKS_MS);
  assertEquals(await identities(), before);
  assertEquals(await exec("second"), "in it");
  // The others go on: pods end and begin.
  await plane.kubectlOk(["delete", "pod", nameOf("prefixed"), "--wait"]);
  await untilGone(kubelet, nameOf("prefixed"));
  await plane.kubectlOk(["apply", "-f", "-"], JSON.stringify(manifest("prefixed")));
  before["prefixed"] = await identity("prefixed");
  const { items } = JSON.parse(await plane.kubectlOk(["get", "nodes", "-o", "json"]));
  const [ready] = items[0].status.conditions.filter(({ type }: { type: string }) =>
    type === "Ready"
  );
  assertEquals(ready.status, "True", ready.message);

  await containerd.restart();
  await delay(KUBELET_LOOKS_MS);
  assertEquals(await identities(), before);
  for (const name of [...DEFAULT_RUNTIMES, "second"]) assertEquals(await exec(name), "in it");

  for (const name of Object.keys(PODS)) {
    await plane.kubectlOk(["delete", "pod", nameOf(name), "--wait"]);
    await untilGone(kubelet, nameOf(name));
  }
  await untilNoJobs(lab);
}

Deno.test("a kubelet keeps its pods in three runtimes when one of them dies for a while", async () => {
  await setUp();
  try {
    await killOneRuntime();
  } finally {
    await tearDown();
  }
});
