/** A real kubelet with one static pod, on containerd, which proves the kubelet's set-up, and on multicri. */
import { assertEquals } from "@std/assert";
import { startContainerd } from "../../scripts/lab/containerd.ts";
import { Crictl } from "../../scripts/lab/crictl.ts";
import { pushCritestImages } from "../../scripts/lab/critest_images.ts";
import { Kubelet } from "../../scripts/lab/kubelet.ts";
import { Lab } from "../../scripts/lab/lab.ts";
import { NodeServer, prepareNode } from "../../scripts/lab/node_server.ts";
import { IMAGE, onCluster, outputOf, pod, podSpec, removeStaticPod, untilEnded } from "./pods.ts";

const lab = new Lab();
Deno.test.beforeAll(() => prepareNode(lab, () => {}));

interface Runtime {
  socketPath: string;
  stop(): Promise<void>;
}

/** The runtimes, each with a name of the lab's busybox that it can pull. */
const RUNTIMES: readonly [name: string, image: string, start: () => Promise<Runtime>][] = [
  ["containerd", "docker.io/lab/busybox:1", async () => {
    await pushCritestImages(lab, () => {});
    return await startContainerd(lab);
  }],
  ["multicri", IMAGE, async () => {
    const server = new NodeServer(lab, { name: "kubelet-test" });
    await server.forget();
    await server.start();
    return server;
  }],
];

for (const [runtimeName, image, start] of RUNTIMES) {
  Deno.test(`a kubelet runs a static pod on ${runtimeName}`, async () => {
    const runtime = await start();
    const kubelet = new Kubelet(lab, runtime);
    try {
      await kubelet.start();
      const script = "echo out; echo err >&2; exit 7";
      await kubelet.writeStaticPod(
        "static",
        pod("static", podSpec(lab, [{ name: "main", image, script }])),
      );
      const found = await untilEnded(kubelet, "static");
      const [status] = found.status.containerStatuses ?? [];
      assertEquals(
        [found.status.phase, status?.state.terminated?.exitCode, status?.restartCount],
        ["Failed", 7, 0],
        JSON.stringify(found, null, 1),
      );
      assertEquals(await outputOf(lab, found), { stdout: ["out"], stderr: ["err"] });
      await removeStaticPod(kubelet, "static");
      // The kubelet itself removes ended sandboxes, some minutes later.
      await kubelet.stop();
      const crictl = new Crictl(lab, runtime.socketPath);
      await crictl.removePods(await crictl.pods());
      assertEquals(await onCluster(lab, "squeue --noheader"), "");
    } finally {
      await kubelet.remove();
      await runtime.stop();
    }
  });
}
