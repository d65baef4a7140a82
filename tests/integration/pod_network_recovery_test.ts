/** Pods' networks over deaths of the server and a reboot of the node. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { NetworkNode } from "../network_node.ts";

async function withNode(name: string, test: (node: NetworkNode) => Promise<void>): Promise<void> {
  const node = await NetworkNode.start(name);
  try {
    await test(node);
  } finally {
    await node.stop();
  }
}

const ports = { port_mappings: [{ container_port: 80, host_port: 18081 }] };

Deno.test("a pod keeps its network when the server is killed, and loses it when it is stopped later", () =>
  withNode("netkill", async (node) => {
    const before = await node.usedOnce();
    const pod = await node.runPod(ports);
    const addresses = await node.addresses(pod);
    await node.killServer();
    await node.server.start();
    assertEquals(await node.addresses(pod), addresses);
    await node.inPod(pod, "busybox ping -c 1 -w 5 10.92.0.1");
    assertEquals((await node.server.log()).includes("damaged"), false);

    await node.inPod(pod, "ip route delete default");
    await node.killServer();
    await node.server.start();
    assertStringIncludes(
      await node.server.log(),
      "is damaged: The network plugin bridge failed at",
    );
    await node.server.crictlOk(["stopp", pod]);
    assertEquals(await node.remains(), before);
  }));

Deno.test("pods' networks are made anew after a reboot", () =>
  withNode("netboot", async (node) => {
    const before = await node.usedOnce();
    const pods = [await node.runPod(ports), await node.runPod()];
    await node.killServer();
    await node.forgetAsInReboot();
    await node.server.start();
    for (const pod of pods) await node.inPod(pod, "busybox ping -c 1 -w 5 10.92.0.1");
    // The old leases lay on the disk and are free again: there are two for each pod.
    assertEquals((await node.remains()).leases, before.leases + 4);
    await node.server.crictlOk(["stopp", ...pods]);
    assertEquals(await node.remains(), before);
  }));

Deno.test("the leases of pods that a reboot made the server forget are free again", () =>
  withNode("netlost", async (node) => {
    const before = await node.usedOnce();
    await node.runPod();
    await node.killServer();
    await node.forgetAsInReboot();
    // As if the records of pods had been on /run.
    await node.sh(`rm ${node.server.rootDir}/pods.db*`);
    await node.server.start();
    assertEquals(await node.remains(), before);
  }));
