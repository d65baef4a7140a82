/** A real kubelet on a server with pod networks, from a node that has no network yet to one that has pods in it. */
import { assertEquals } from "@std/assert";
import { Crictl } from "../../scripts/lab/crictl.ts";
import { Kubelet } from "../../scripts/lab/kubelet.ts";
import { Lab } from "../../scripts/lab/lab.ts";
import { prepareNode } from "../../scripts/lab/node_server.ts";
import { NetworkNode } from "../network_node.ts";
import { outputOf, pod, podSpec, removeStaticPod, until, untilEnded, untilPod } from "./pods.ts";

const lab = new Lab();
Deno.test.beforeAll(() => prepareNode(lab, () => {}));

/** What the kubelet says of a runtime that is not ready for pods. */
const NOT_READY = "container runtime network not ready: NetworkReady=false " +
  "reason:NetworkPluginNotReady message:Network plugin returns error: cni plugin not initialized";

Deno.test("a kubelet waits for a network, gives its pod addresses of both families, and leaves nothing", async () => {
  const node = await NetworkNode.start("kubenet");
  const kubelet = new Kubelet(lab, { socketPath: node.server.socketPath });
  try {
    const before = await node.usedOnce();
    await node.configure(undefined);
    await kubelet.start();
    const script = "echo out; sleep 3; exit 7";
    const spec = podSpec(lab, [{
      name: "main",
      script,
      more: { ports: [{ containerPort: 80, hostPort: 18083 }] },
    }]);
    await kubelet.writeStaticPod("static", pod("static", spec));
    await until(async () => assertEquals((await kubelet.log()).includes(NOT_READY), true));
    assertEquals(await node.server.crictlOk(["pods", "-q"]), "");

    await node.configure(node.bridgeNetwork());
    const found = await untilPod(
      kubelet,
      "static",
      "in its network",
      ({ status }) => (status.podIPs?.length ?? 0) > 0,
    );
    const [sandbox = ""] = await new Crictl(lab, node.server.socketPath).pods();
    assertEquals(found.status.podIPs?.map(({ ip }) => ip), await node.addresses(sandbox));
    assertEquals(found.status.podIPs?.length, 2);
    const ended = await untilEnded(kubelet, "static");
    const [status] = ended.status.containerStatuses ?? [];
    assertEquals([status?.state.terminated?.exitCode, status?.restartCount], [7, 0]);
    assertEquals((await outputOf(lab, ended)).stdout, ["out"]);
    await removeStaticPod(kubelet, "static");
    // It stops the sandbox of a pod that ended by itself, and removes it some minutes later.
    await until(async () => assertEquals(await node.remains(), before));
  } finally {
    await kubelet.remove();
    await node.stop();
  }
});
