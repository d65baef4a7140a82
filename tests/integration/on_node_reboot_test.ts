/** Pods on the node itself that are kept over a reboot, which takes their processes, mounts and networks. */
import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { ContainerState, NamespaceMode, PodSandboxState } from "../../lib/cri/api.generated.ts";
import { NodeServer } from "../../scripts/lab/node_server.ts";
import { CriClient, IMAGE, type Pod } from "../cri_client.ts";
import { NetworkNode, PERSISTENCE } from "../network_node.ts";
import { leftOnNode } from "../node_leftovers.ts";
import { lab, logged } from "../on_node.ts";

/** Takes the rest of what a reboot takes. $1, $2: the folders of the server, which must not run. */
const REBOOT = `pkill -KILL -f '^multicri: container'
for list in /sys/fs/cgroup/*/multicri/*/cgroup.procs; do xargs -r kill -9 <"$list" 2>/dev/null; done
pkill -KILL -f '^pause$|^unshare --pid'
awk -v a="$1/" -v b="$2/" 'index($2, a) == 1 || index($2, b) == 1 { print $2 }' /proc/mounts | tac |
  xargs -r -n 1 umount -l
until rmdir /sys/fs/cgroup/*/multicri/*/ 2>/dev/null || ! ls -d /sys/fs/cgroup/*/multicri/*/ >/dev/null 2>&1; do
  sleep 0.05
done`;

Deno.test("after a reboot pods are out of service, and a kubelet has them made anew", async () => {
  const node = await NetworkNode.start("reboot", { flags: ["--adapter-name", "singularity"] });
  const { server } = node;
  const client = new CriClient(lab.path("knode", server.socketPath));
  try {
    await client.call("pullImage", { image: { image: IMAGE } });
    const networks = await node.usedOnce();
    const processes = { namespaceOptions: { pid: NamespaceMode.POD } };
    const onNode = { namespaceOptions: { network: NamespaceMode.NODE } };
    const pods: Pod[] = [];
    for (const securityContext of [{}, processes, onNode]) {
      pods.push(await client.runPod(client.podConfig({ linux: { securityContext } })));
    }
    const ids: string[] = [];
    for (const pod of pods) {
      const id = await client.create(pod, "echo before; sleep 1000");
      await client.call("startContainer", { containerId: id });
      ids.push(id);
      while (await logged(pod, "stdout") !== "before\n") await delay(50);
      await client.create(pod, "true", { metadata: { name: "second" } });
    }
    await server.kill();
    const { rootDir, stateDir } = server;
    await lab.exec("knode", ["sh", "-c", REBOOT, "sh", rootDir, stateDir]);
    await node.forgetAsInReboot();
    await server.start();
    for (const [index, pod] of pods.entries()) {
      const { status } = await client.call("podSandboxStatus", { podSandboxId: pod.id });
      assertEquals(status?.state, PodSandboxState.SANDBOX_NOTREADY);
      const { exitCode, reason } = await client.exited(ids[index] ?? "");
      assertEquals([exitCode, reason], [255, "Unknown"]);
      await assertRejects(() => client.create(pod, "true"), Error, "is not ready");
    }
    // As a kubelet does.
    for (const { id, config } of pods) {
      await client.call("stopPodSandbox", { podSandboxId: id });
      const metadata = { ...config.metadata, attempt: 1 };
      const again = await client.runPod({ ...config, metadata } as Pod["config"]);
      const containerId = await client.create(again, "echo after; exit 4", {
        metadata: { name: "main", attempt: 1 },
      });
      await client.call("startContainer", { containerId });
      assertEquals((await client.exited(containerId)).exitCode, 4);
      assertEquals((await logged(again, "stdout")).endsWith("after\n"), true);
    }
    const states = (await client.call("listContainers")).containers.map(({ state }) => state);
    assertEquals(states.filter((state) => state === ContainerState.CONTAINER_RUNNING), []);
    for (const podSandboxId of await client.pods({})) {
      await client.call("removePodSandbox", { podSandboxId });
    }
    assertEquals(await node.remains(), networks);
  } finally {
    client.close();
    await node.stop();
  }
  assertEquals(await leftOnNode(server), "");
});

Deno.test("a pod whose network is removed is out of service from the next start on, of a container or the server", async () => {
  const name = "netgone";
  // With ipMasq the plugin leaves the rules of a pod whose namespace is gone.
  const ipam = { type: "host-local", ranges: [[{ subnet: "10.92.0.0/24" }]] };
  const node = await NetworkNode.start(name, {
    flags: ["--adapter-name", "singularity"],
    network: { cniVersion: "1.0.0", name, plugins: [{ type: "bridge", bridge: name, ipam }] },
  });
  const { server } = node;
  const client = new CriClient(lab.path("knode", server.socketPath));
  const stateOf = async ({ id }: Pod) =>
    (await client.call("podSandboxStatus", { podSandboxId: id })).status?.state;
  try {
    await client.call("pullImage", { image: { image: IMAGE } });
    const networks = await node.usedOnce();
    const { pod: started } = await client.runContainer("sleep 1000");
    const { pod: found } = await client.runContainer("sleep 1000");
    const whole = await client.runPod();
    for (const { id } of [started, found]) await node.sh(`ip netns delete multicri-${id}`);
    const late = await client.create(started, "true", { metadata: { name: "late" } });
    await assertRejects(() => client.call("startContainer", { containerId: late }));
    assertEquals(await stateOf(started), PodSandboxState.SANDBOX_NOTREADY);
    assertEquals(await stateOf(found), PodSandboxState.SANDBOX_READY);
    await node.killServer();
    await server.start();
    assertEquals(await stateOf(found), PodSandboxState.SANDBOX_NOTREADY);
    assertEquals(await stateOf(whole), PodSandboxState.SANDBOX_READY);
    for (const { id } of [started, found, whole]) await server.crictlOk(["rmp", "--force", id]);
    assertEquals(await node.remains(), networks);
  } finally {
    client.close();
    await node.stop();
  }
});

Deno.test("a pod made with or without a network of its own is never used otherwise", async () => {
  const flags = ["--adapter-name", "singularity"];
  const node = await NetworkNode.start("choice", { flags });
  const other = new NodeServer(lab, { name: node.name, flags: [...flags, PERSISTENCE] });
  const client = new CriClient(lab.path("knode", other.socketPath));
  const create = async (pod: Pod) => {
    const metadata = { name: "late", attempt: 0 };
    return await client.create(pod, "true", { metadata })
      .then(() => "made", (error: Error) => error.message);
  };
  try {
    await client.call("pullImage", { image: { image: IMAGE } });
    const { pod: networked } = await client.runContainer("sleep 1000");
    await node.server.stop();
    await other.start();
    assertMatch(await create(networked), /which only a server with --enable-pod-network can use/);
    const { pod: plain } = await client.runContainer("sleep 1000");
    await other.stop();
    await node.server.start();
    assertMatch(await create(plain), /was made without --enable-pod-network: remove it/);
    assertEquals(await create(networked), "made");
  } finally {
    client.close();
    await other.stop();
    await node.stop();
  }
});
