/** What containers on the node itself are given and use. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { delay } from "@std/async/delay";
import { NamespaceMode, Signal } from "../../lib/cri/api.generated.ts";
import { prepareNode } from "../../scripts/lab/node_server.ts";
import { lab, logged, onNode } from "../on_node.ts";

const POLL_MS = 50;

Deno.test.beforeAll(() => prepareNode(lab, () => {}));

Deno.test("a container is asked to end by its own signal", () =>
  onNode(async ({ client }) => {
    const pod = await client.runPod();
    const script =
      "trap 'exit 12' TERM; trap 'exit 34' USR2; echo ready; while :; do sleep 0.1; done";
    const id = await client.create(pod, script, { stopSignal: Signal.SIGNAL_SIGUSR2 });
    await client.call("startContainer", { containerId: id });
    while (await logged(pod, "stdout").catch(() => "") === "") await delay(POLL_MS);
    await client.call("stopContainer", { containerId: id, timeout: 30n });
    assertEquals((await client.exited(id)).exitCode, 34);
    assertEquals((await client.status(id)).stopSignal, Signal.SIGNAL_SIGUSR2);
  }));

Deno.test("a container that is stopped twice is asked to end once, and killed after the shorter grace", () =>
  onNode(async ({ client }) => {
    const script = "trap 'echo asked' TERM; echo ready; while :; do sleep 0.1; done";
    const { pod, id: containerId } = await client.runContainer(script);
    const until = async (text: string) => {
      while (await logged(pod, "stdout").catch(() => "") !== text) await delay(POLL_MS);
    };
    await until("ready\n");
    const first = client.call("stopContainer", { containerId, timeout: 60n });
    await until("ready\nasked\n");
    await client.call("stopContainer", { containerId, timeout: 1n });
    await first;
    assertEquals((await client.status(containerId)).exitCode, 137);
    assertEquals(await logged(pod, "stdout"), "ready\nasked\n");
  }));

Deno.test("a container that names no signal tells the one that it is asked to end by", () =>
  onNode(async ({ client }) => {
    const id = await client.create(await client.runPod(), "exit 0");
    assertEquals((await client.status(id)).stopSignal, Signal.SIGNAL_SIGTERM);
  }));

Deno.test("a kubelet's limits of huge pages do not matter where the kernel has none", () =>
  onNode(async ({ client }) => {
    const pod = await client.runPod();
    const resources = { hugepageLimits: [{ pageSize: "2MB", limit: 0n }] };
    const id = await client.create(pod, "exit 3", { linux: { resources } });
    await client.call("startContainer", { containerId: id });
    assertEquals((await client.exited(id)).exitCode, 3);
  }));

Deno.test("a container swaps nothing whose memory is limited, also after an update, unless it may", () =>
  onNode(async ({ client }) => {
    // Version 1 counts memory and swap together, version 2 swap alone.
    const script =
      'file=/sys/fs/cgroup/memory; [ -e "$file" ] || { cat /sys/fs/cgroup/memory.swap.max; exit; }; ' +
      'echo $(($(cat "$file/memory.memsw.limit_in_bytes") - $(cat "$file/memory.limit_in_bytes")))';
    const memory = (mebibytes: bigint) => ({ memoryLimitInBytes: mebibytes << 20n });
    const both = (mebibytes: bigint) => ({
      ...memory(mebibytes),
      memorySwapLimitInBytes: mebibytes << 20n,
    });
    for (const resources of [memory(64n), both(64n)]) {
      const id = await client.create(await client.runPod(), "exec sleep 600", {
        linux: { resources },
      });
      await client.call("startContainer", { containerId: id });
      const swap = async () => {
        const cmd = ["sh", "-c", script];
        const { stdout } = await client.call("execSync", { containerId: id, cmd, timeout: 30n });
        return new TextDecoder().decode(stdout);
      };
      assertEquals(await swap(), "0\n");
      for (const linux of [memory(96n), memory(48n), both(80n), both(40n), memory(64n)]) {
        await client.call("updateContainerResources", { containerId: id, linux });
        assertEquals(await swap(), "0\n");
      }
      const linux = { memorySwapLimitInBytes: -1n };
      await client.call("updateContainerResources", { containerId: id, linux });
      assertMatch(await swap(), /^(max|\d{15,})\n$/);
      await client.call("stopContainer", { containerId: id, timeout: 0n });
    }
  }));

Deno.test("a program may open as many files as elsewhere, and raise that to what the node lets it", () =>
  onNode(async ({ client }) => {
    const most = (await lab.exec("knode", ["sh", "-c", "ulimit -Hn"])).stdout;
    const script = `ulimit -Sn; ulimit -Hn; ulimit -Sn ${most.trim()}; ulimit -Sn`;
    const cmd = ["sh", "-c", script];
    const seen = `1024\n${most}${most}`;
    const ids = [{ hostId: 1_000_000, containerId: 0, length: 65_536 }];
    const usernsOptions = { mode: NamespaceMode.POD, uids: ids, gids: ids };
    for (const namespaceOptions of [{}, { usernsOptions }]) {
      const linux = { securityContext: { namespaceOptions } };
      const pod = await client.runPod(client.podConfig({ linux }));
      const id = await client.create(pod, `${script}; sleep 60`, { linux });
      await client.call("startContainer", { containerId: id });
      while (await logged(pod, "stdout").catch(() => "") !== seen) await delay(POLL_MS);
      const { stdout } = await client.call("execSync", { containerId: id, cmd, timeout: 30n });
      assertEquals(new TextDecoder().decode(stdout), seen);
    }
  }));

Deno.test("a container's writable layer is measured", () =>
  onNode(async ({ server, client }) => {
    const [FILES, BYTES] = [100, 40_000];
    const script = `for i in $(seq ${FILES}); do head -c ${BYTES} /dev/zero >/$i; done
echo written; sleep 60`;
    const { pod, id } = await client.runContainer(script);
    while (await logged(pod, "stdout").catch(() => "") === "") await delay(POLL_MS);
    const layer = async () => {
      const { stats } = await client.call("containerStats", { containerId: id });
      return stats?.writableLayer;
    };
    let found = await layer();
    for (; found?.usedBytes === undefined; found = await layer()) await delay(POLL_MS);
    // Places of mounts are inodes too.
    const inodes = Number(found.inodesUsed?.value);
    assert(inodes > FILES && inodes < FILES + 20, `${inodes} inodes`);
    const used = Number(found.usedBytes.value);
    assert(used >= FILES * BYTES && used < FILES * BYTES * 1.2, `${used} bytes`);
    assertEquals(found.fsId?.mountpoint, `${server.rootDir}/containers`);
    const { imageFilesystems, containerFilesystems } = await client.call("imageFsInfo");
    const [images, layers] = [...imageFilesystems, ...containerFilesystems];
    assertEquals([images?.fsId?.mountpoint !== found.fsId?.mountpoint, layers?.fsId], [
      true,
      found.fsId,
    ]);
    assertEquals([layers?.usedBytes, layers?.inodesUsed], [found.usedBytes, found.inodesUsed]);
    const { startedAt } = await client.status(id);
    assert(found.timestamp >= startedAt);
    const { stats } = await client.call("listContainerStats", { filter: { id } });
    assertEquals(stats[0]?.writableLayer, found);
  }));

Deno.test("new limits for a container that has ended are no failure", () =>
  onNode(async ({ client }) => {
    const id = await client.create(await client.runPod(), "exit 4");
    await client.call("startContainer", { containerId: id });
    await client.exited(id);
    const linux = { memoryLimitInBytes: 100_000_000n };
    await client.call("updateContainerResources", { containerId: id, linux });
    assertEquals((await client.status(id)).exitCode, 4);
  }));
