/** The cgroups of pods on the node itself: which are made and removed, and limits that the kernel refuses. */
import { assertEquals, assertRejects } from "@std/assert";
import type { DeepPartial, LinuxContainerResources } from "../../lib/cri/api.generated.ts";
import { prepareNode } from "../../scripts/lab/node_server.ts";
import type { CriClient } from "../cri_client.ts";
import { lab, onNode } from "../on_node.ts";

/** Names of cgroups that nobody else has. */
const [OURS, THEIRS] = ["multicri-test-ours", "multicri-test-theirs"];

Deno.test.beforeAll(() => prepareNode(lab, () => {}));

async function inNode(script: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await lab.exec("knode", ["sh", "-euc", script, "sh", ...args]);
  assertEquals([code, stderr], [0, ""]);
  return stdout;
}

/** The cgroups that bear a name of ours, with what lies in them but containers, in any hierarchy. */
async function cgroups(): Promise<string[]> {
  const found = await inNode(`find /sys/fs/cgroup -type d -path '*/multicri-test-*'`);
  const paths = found.split("\n").slice(0, -1).map((path) =>
    path.replace(/^.*?\/(?=multicri-t)/, "")
  );
  return [...new Set(paths.filter((path) => !/[0-9a-f]{64}/.test(path)))].sort();
}

/** A pod with such a parent, and a container that was started in it. */
async function runIn(client: CriClient, cgroupParent: string): Promise<string> {
  const pod = await client.runPod(client.podConfig({ linux: { cgroupParent } }));
  const id = await client.create(pod, "sleep 1000");
  await client.call("startContainer", { containerId: id });
  return pod.id;
}

Deno.test("cgroups that were made for pods go with the last of them, also when the server was killed", () =>
  onNode(async ({ server, client }) => {
    for (let killed = 0; killed < 2; killed++) {
      await inNode('for folder in /sys/fs/cgroup/*/; do mkdir -p "$folder$1"; done', THEIRS);
      const first = await runIn(client, `/${OURS}/deep/a`);
      const second = await runIn(client, `${OURS}/deep/b/`);
      const third = await runIn(client, `/${THEIRS}`);
      const fourth = await runIn(client, `/${THEIRS}/c`);
      const never = await client.runPod(
        client.podConfig({ linux: { cgroupParent: `/${OURS}/d` } }),
      );
      const failing = await client.create(never, "", { command: ["/no/such"] });
      await assertRejects(() => client.call("startContainer", { containerId: failing }));
      const all = ["", "/deep", "/deep/a", "/deep/b"].map((path) => OURS + path);
      assertEquals((await cgroups()).filter((path) => path !== `${OURS}/d`), [
        ...all,
        THEIRS,
        `${THEIRS}/c`,
      ]);
      if (killed > 0) {
        await server.kill();
        await server.start();
      }
      for (const podSandboxId of [first, never.id, third, fourth]) {
        await client.call("removePodSandbox", { podSandboxId });
      }
      assertEquals(await cgroups(), [...all.filter((path) => !path.endsWith("/a")), THEIRS]);
      await client.call("removePodSandbox", { podSandboxId: second });
      assertEquals(await cgroups(), [THEIRS]);
      await inNode('rmdir /sys/fs/cgroup/*/"$1"', THEIRS);
    }
  }));

/** What the kernel alone refuses, each beside something that it takes. */
const REFUSED: Record<string, DeepPartial<LinuxContainerResources>> = {
  "processors that the node does not have": { cpuShares: 512n, cpusetCpus: "4000" },
  "memory nodes that the node does not have": { memoryLimitInBytes: 200n << 20n, cpusetMems: "77" },
  "less memory than is used": { cpuShares: 300n, memoryLimitInBytes: 1n },
};

Deno.test("limits that the kernel refuses for a running container leave all as they were", (t) =>
  onNode(async ({ client }) => {
    const pod = await client.runPod();
    const limits = { cpuShares: 700n, cpuPeriod: 50_000n, cpuQuota: 25_000n, cpusetCpus: "0" };
    const resources = { ...limits, memoryLimitInBytes: 100n << 20n };
    const containerId = await client.create(pod, "sleep 1000", { linux: { resources } });
    await client.call("startContainer", { containerId });
    const inKernel = () =>
      inNode(
        `for name in cpu.shares cpu.cfs_period_us cpu.cfs_quota_us cpuset.cpus cpuset.mems \\
  memory.limit_in_bytes memory.memsw.limit_in_bytes; do
  cat "/sys/fs/cgroup/\${name%%.*}/multicri/$1/$name"
done`,
        containerId,
      );
    const told = async () => (await client.status(containerId)).resources?.linux;
    const before = { inKernel: await inKernel(), told: await told() };
    for (const [what, linux] of Object.entries(REFUSED)) {
      await t.step(what, async () => {
        const update = client.call("updateContainerResources", { containerId, linux });
        await assertRejects(() => update, Error, "Cannot change the resources of the container");
        assertEquals({ inKernel: await inKernel(), told: await told() }, before);
      });
    }
    const linux = { cpuShares: 512n, memoryLimitInBytes: 200n << 20n };
    await client.call("updateContainerResources", { containerId, linux });
    const [shares] = (await inKernel()).split("\n");
    assertEquals([shares, (await told())?.memoryLimitInBytes], ["512", 200n << 20n]);
  }));
