/** A real kubelet, on containerd (which proves the kubelet's set-up) and on multicri. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { delay } from "@std/async/delay";
import { type Containerd, startContainerd } from "../../scripts/lab/containerd.ts";
import { type ControlPlane, startControlPlane } from "../../scripts/lab/control_plane.ts";
import { Crictl } from "../../scripts/lab/crictl.ts";
import { pushCritestImages } from "../../scripts/lab/critest_images.ts";
import { Kubelet, NODE_NAME, type PodStatus } from "../../scripts/lab/kubelet.ts";
import { Lab } from "../../scripts/lab/lab.ts";
import { NodeServer, prepareNode } from "../../scripts/lab/node_server.ts";

const POD_TIMEOUT_MS = 90_000;
const POLL_MS = 250;
const SCRIPT = "echo out; echo err >&2; exit 7";

const lab = new Lab();
Deno.test.beforeAll(() => prepareNode(lab, () => {}));

/** Waits until a pod is as wanted, or gone (undefined). @throws Error with how it is. */
async function until(
  kubelet: Kubelet,
  name: string,
  holds: (pod: PodStatus | undefined) => boolean,
): Promise<PodStatus | undefined> {
  const deadline = performance.now() + POD_TIMEOUT_MS;
  for (;;) {
    const pod = await kubelet.pod(name);
    if (holds(pod)) return pod;
    if (performance.now() > deadline) {
      throw new Error(`The pod ${name} is ${JSON.stringify(pod?.status, null, 1)}`);
    }
    await delay(POLL_MS);
  }
}

function podOf(name: string, image: string, env: Record<string, string>, more = {}): unknown {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: "default" },
    spec: {
      restartPolicy: "Never",
      terminationGracePeriodSeconds: 5,
      containers: [{
        name: "main",
        image,
        command: ["/bin/sh", "-c", SCRIPT],
        env: Object.entries(env).map(([name, value]) => ({ name, value })),
      }],
      ...more,
    },
  };
}

/** The program's lines of a pod's log, by stream. */
async function logOf({ metadata }: PodStatus): Promise<string[]> {
  const path = `/var/log/pods/${metadata.namespace}_${metadata.name}_${metadata.uid}/main/0.log`;
  const text = await Deno.readTextFile(lab.path("knode", path));
  return text.trim().split("\n").map((line) => line.replace(/^\S+ /, ""))
    .filter((line) => !line.includes("stderr F multicri: ")).sort();
}

function assertEnded(pod: PodStatus | undefined): asserts pod is PodStatus {
  const [status] = pod?.status.containerStatuses ?? [];
  assertEquals(
    [pod?.status.phase, status?.state.terminated?.exitCode, status?.restartCount],
    ["Failed", 7, 0],
    JSON.stringify(pod, null, 1),
  );
}

const failed = (pod: PodStatus | undefined) => pod?.status.phase === "Failed";

async function runStaticPod(kubelet: Kubelet, manifest: unknown): Promise<void> {
  await kubelet.writeStaticPod("static", manifest);
  const pod = await until(kubelet, "static", failed);
  assertEnded(pod);
  assertEquals(await logOf(pod), ["stderr F err", "stdout F out"]);
  await kubelet.removeStaticPod("static");
  await until(kubelet, "static", (pod) => pod === undefined);
}

Deno.test("a kubelet runs a static pod on containerd", async () => {
  await pushCritestImages(lab, () => {});
  const containerd: Containerd = await startContainerd(lab);
  const kubelet = new Kubelet(lab, containerd);
  try {
    await kubelet.start();
    await runStaticPod(kubelet, podOf("static", "docker.io/lab/busybox:1", {}));
  } finally {
    await kubelet.remove();
    await containerd.stop();
  }
});

/** What a pod of multicri needs in its environment. */
function clusterEnv(): Record<string, string> {
  const { host, port, user, password } = lab.login;
  return {
    CLUSTER_HOST: host,
    CLUSTER_PORT: String(port),
    CLUSTER_USERNAME: user,
    // Kubernetes expands $(NAME) only; the lone dollar sign in it stays.
    CLUSTER_PASSWORD: password,
  };
}

const IMAGE = "multicri/docker-repository.lab/busybox:1";

Deno.test("a kubelet runs a static pod, and one of the API with a RuntimeClass, on multicri", async () => {
  const server = new NodeServer(lab, { name: "kubelet-test" });
  await lab.exec("knode", ["rm", "-rf", server.rootDir, server.stateDir, server.logPath]);
  let plane: ControlPlane | undefined;
  let kubelet: Kubelet | undefined;
  try {
    await server.start();
    plane = await startControlPlane(lab);
    kubelet = new Kubelet(lab, { socketPath: server.socketPath, controlPlane: plane });
    await kubelet.start();
    await runStaticPod(kubelet, podOf("static", IMAGE, clusterEnv()));

    const runtimeClass = await Deno.readTextFile(
      new URL("../../deploy/runtimeclass.yaml", import.meta.url),
    );
    await plane.kubectlOk(["apply", "-f", "-"], runtimeClass);
    const manifest = podOf("classed", IMAGE, clusterEnv(), {
      runtimeClassName: "multicri",
      nodeName: NODE_NAME,
    });
    await plane.kubectlOk(["apply", "-f", "-"], JSON.stringify(manifest));
    const pod = await until(kubelet, "classed", failed);
    assertEnded(pod);
    assertStringIncludes(await plane.kubectlOk(["logs", "classed"]), "out");
    await plane.kubectlOk(["delete", "pod", "classed", "--wait"]);
    await until(kubelet, "classed", (pod) => pod === undefined);
    // The kubelet itself removes ended sandboxes, some minutes later.
    await kubelet.stop();
    const crictl = new Crictl(lab, server.socketPath);
    await crictl.removePods(await crictl.pods());
    assertEquals((await lab.exec("ctl", ["squeue", "--noheader"])).stdout, "");
  } finally {
    await kubelet?.remove();
    await plane?.stop();
    await server.stop();
  }
});
