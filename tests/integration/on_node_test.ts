/** Containers on the node itself: exact output and ends, kill -9 of the server, and nothing left behind. */
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { NamespaceMode, PodSandboxState } from "../../lib/cri/api.generated.ts";
import { prepareNode } from "../../scripts/lab/node_server.ts";
import { lab, logged, logOf, onNode } from "../on_node.ts";
import { randomSource, seedFor } from "../../wasm/test_random.ts";

Deno.test.beforeAll(() => prepareNode(lab, () => {}));

Deno.test("a program's output and end are told exactly", () =>
  onNode(async ({ client }) => {
    const pod = await client.runPod();
    const script =
      "head -c 200000 /dev/zero | tr '\\0' x; echo; echo err >/dev/stderr; printf part; exit 7";
    const id = await client.create(pod, script);
    await client.call("startContainer", { containerId: id });
    const { exitCode, reason, startedAt, finishedAt } = await client.exited(id);
    assertEquals([exitCode, reason], [7, "Error"]);
    assert(startedAt > 0n && finishedAt >= startedAt);
    assertEquals(await logged(pod, "stdout"), `${"x".repeat(200_000)}\npart\n`);
    assertEquals(await logged(pod, "stderr"), "err\n");
  }));

Deno.test("containers run on, and nothing of them is lost, when the server is killed", () =>
  onNode(async ({ server, client }) => {
    const random = randomSource(seedFor("on_node_test"));
    const script = "for i in $(seq 1 60); do echo line $i; sleep 0.05; done; exit 5";
    const lines = Array.from({ length: 60 }, (_, index) => `line ${index + 1}\n`).join("");
    const { pod, id } = await client.runContainer(script);
    // What file systems and editors leave is nobody's container.
    for (
      const folder of [
        `${server.stateDir}/containers`,
        `${server.rootDir}/containers`,
        `${server.rootDir}/output`,
      ]
    ) {
      await lab.exec("knode", ["touch", `${folder}/.nfs0001`, `${folder}/.swp`]);
    }
    for (let kills = 0; kills < 3; kills++) {
      await delay(200 + random.below(600));
      await server.kill();
      await delay(random.below(300));
      await server.start();
    }
    const late = await client.runContainer(
      "echo early; sleep 1; echo oops >&2; sleep 0.2; echo late; sleep 0.2; echo over >&2; exit 3",
    );
    await server.kill();
    // It ends while nobody sees it.
    await delay(2_000);
    await server.start();
    assertEquals((await client.exited(id)).exitCode, 5);
    assertEquals(await logged(pod, "stdout"), lines);
    assertEquals((await client.exited(late.id)).exitCode, 3);
    const words = (await logOf(late.pod)).split("\n").map((line) => line.split(" ").at(-1));
    assertEquals(words, ["early", "oops", "late", "over", ""]);
  }));

Deno.test("other users of the node do not reach a container's files, and a pod's first process has no rights", () =>
  onNode(async ({ server, client }) => {
    const range = [{ hostId: 1_000_000, containerId: 0, length: 65_536 }];
    const usernsOptions = { mode: NamespaceMode.POD, uids: range, gids: range };
    for (const more of [{}, { usernsOptions }]) {
      const namespaceOptions = { pid: NamespaceMode.POD, ...more };
      const config = client.podConfig({ linux: { securityContext: { namespaceOptions } } });
      const pod = await client.runPod(config);
      const script =
        "cp /bin/busybox /su && chmod 4755 /su && grep -E '^(Uid|Gid|Cap|NoNew)' /proc/1/status; sleep 60";
      const id = await client.create(pod, script, {
        linux: { securityContext: { namespaceOptions } },
      });
      await client.call("startContainer", { containerId: id });
      const layer = `${server.rootDir}/containers/${id}`;
      const nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
      const nearest = `${server.rootDir}/containers`;
      assertEquals((await lab.exec("knode", [...nobody, "test", "-e", nearest])).code, 0);
      for (const folder of ["upper", "rootfs"]) {
        const path = `${layer}/${folder}/su`;
        const look = `for i in $(seq 100); do [ ! -u ${path} ] || exit 0; sleep 0.05; done; exit 1`;
        assertEquals((await lab.exec("knode", ["sh", "-c", look])).code, 0);
        assertEquals((await lab.exec("knode", [...nobody, "test", "-e", path])).code, 1);
      }
      const status = await logged(pod, "stdout");
      assertMatch(status, /^CapPrm:\t0{16}\nCapEff:\t0{16}\nCapBnd:\t0{16}\n/m);
      assertMatch(status, /^NoNewPrivs:\t1$/m);
      assertMatch(status, /^Uid:(\t65534){4}\nGid:(\t65534){4}$/m);
      await client.call("stopContainer", { containerId: id, timeout: 0n });
    }
  }));

Deno.test("a container whose supervisor is killed ends, and can be stopped and removed", () =>
  onNode(async ({ server, client }) => {
    const killSupervisor = async (id: string) => {
      const argv = ["pkill", "-KILL", "-f", `^multicri: container ${id}$`];
      assertEquals((await lab.exec("knode", argv)).code, 0);
    };
    const stopped = await client.runContainer("trap '' TERM; while :; do sleep 1; done");
    await killSupervisor(stopped.id);
    await client.call("stopContainer", { containerId: stopped.id, timeout: 1n });
    const watched = await client.runContainer("sleep 1000");
    await killSupervisor(watched.id);
    const unseen = await client.runContainer("sleep 1");
    await server.kill();
    await killSupervisor(unseen.id);
    await server.start();
    const ends = [[stopped, 137, "Error"], [watched, 137, "Error"], [
      unseen,
      255,
      "Unknown",
    ]] as const;
    for (const [{ id }, code, why] of ends) {
      const { exitCode, reason } = await client.exited(id);
      assertEquals([exitCode, reason], [code, why]);
      await client.call("removeContainer", { containerId: id });
    }
  }));

Deno.test("a container whose files are removed ends, and its supervisor with it", () =>
  onNode(async ({ server, client }) => {
    const { id } = await client.runContainer("sleep 1000");
    const removed = `rm "${server.rootDir}/output/${id}.exit.new"`;
    assertEquals((await lab.exec("knode", ["sh", "-c", removed])).code, 0);
    await client.call("stopContainer", { containerId: id, timeout: 0n });
    const { exitCode, reason } = await client.exited(id);
    assertEquals([exitCode, reason], [137, "Error"]);
  }));

Deno.test("a pod whose first process is killed goes out of service, and no container can be started in it", () =>
  onNode(async ({ server, client }) => {
    const shared = { namespaceOptions: { pid: NamespaceMode.POD } };
    const pod = await client.runPod(client.podConfig({ linux: { securityContext: shared } }));
    const idle = await client.create(pod, "true", { metadata: { name: "idle" } });
    const running = await client.create(pod, "exec sleep 1000");
    await client.call("startContainer", { containerId: running });
    const kill = `kill -KILL "$(cat "${server.stateDir}/pods/${pod.id}/pause")"`;
    assertEquals((await lab.exec("knode", ["sh", "-c", kill])).code, 0);
    assertEquals((await client.exited(running)).exitCode, 137);
    const state = async () => {
      const { status } = await client.call("podSandboxStatus", { podSandboxId: pod.id });
      return status?.state;
    };
    while (await state() !== PodSandboxState.SANDBOX_NOTREADY) await delay(20);
    await assertRejects(() => client.call("startContainer", { containerId: idle }));
  }));

Deno.test("a pod without a running container goes out of service when one cannot be started", () =>
  onNode(async ({ server, client }) => {
    const shared = { namespaceOptions: { pid: NamespaceMode.POD } };
    const pod = await client.runPod(client.podConfig({ linux: { securityContext: shared } }));
    const idle = await client.create(pod, "true");
    const kill = `kill -KILL "$(cat "${server.stateDir}/pods/${pod.id}/pause")"`;
    assertEquals((await lab.exec("knode", ["sh", "-c", kill])).code, 0);
    await assertRejects(() => client.call("startContainer", { containerId: idle }));
    const { status } = await client.call("podSandboxStatus", { podSandboxId: pod.id });
    assertEquals(status?.state, PodSandboxState.SANDBOX_NOTREADY);
  }));

Deno.test("a program that writes what nobody copies waits, and loses nothing", () =>
  onNode(async ({ server, client }) => {
    const [MIB, BYTES] = [1024 * 1024, 100_000_000];
    // It begins when the server is gone.
    const script = `until [ -e /go ]; do sleep 0.1; done; head -c ${BYTES} /dev/zero | tr '\\0' x`;
    const { pod, id } = await client.runContainer(script);
    await server.kill();
    const begin = `: >"$1/containers/${id}/rootfs/go"
for i in $(seq 100); do
  before=$size; size=$(stat -c %s "$1/output/${id}.stdout")
  if [ "$size" -gt 0 ] && [ "$size" = "$before" ]; then break; fi
  sleep 0.5
done
echo "$size"`;
    const { stdout } = await lab.exec("knode", ["sh", "-c", begin, "sh", server.rootDir]);
    const bytes = Number(stdout);
    assert(bytes >= 64 * MIB && bytes < 65 * MIB, `${bytes} bytes wait`);
    await server.start();
    assertEquals((await client.exited(id)).exitCode, 0);
    assertEquals((await logged(pod, "stdout")).length, BYTES + "\n".length);
  }));

Deno.test("what a killed server had begun is removed or can be done again", () =>
  onNode(async ({ server, client }) => {
    const random = randomSource(seedFor("on_node_test begun"));
    for (let round = 0; round < 6; round++) {
      const pods = [client.podConfig(), client.podConfig()];
      const work = Promise.allSettled(pods.map(async (config) => {
        const pod = await client.runPod(config);
        const id = await client.create(pod, "sleep 1000");
        await client.call("startContainer", { containerId: id });
      }));
      await delay(random.below(350));
      await server.kill();
      await work;
      await server.start();
      for (const config of pods) {
        const { id } = await client.runPod(config);
        await client.call("removePodSandbox", { podSandboxId: id });
      }
    }
  }));
Deno.test("a container tells what it uses, and that it was killed for memory", () =>
  onNode(async ({ client }) => {
    const pod = await client.runPod();
    const resources = { memoryLimitInBytes: BigInt(32 * 1024 * 1024) };
    const HELD_BYTES = 8_000_000n;
    const script =
      `trap 'exit 3' TERM; x=$(head -c ${HELD_BYTES} /dev/zero | tr '\\0' x); sleep 1000 & wait`;
    const small = await client.create(pod, script, { linux: { resources } });
    await client.call("startContainer", { containerId: small });
    for (;;) {
      const { stats } = await client.call("containerStats", { containerId: small });
      const { memory, cpu, swap } = stats ?? {};
      const used = memory?.usageBytes?.value ?? 0n;
      if (used > HELD_BYTES && cpu?.usageNanoCores !== undefined) {
        assert(used >= (memory?.workingSetBytes?.value ?? 0n));
        assert((memory?.rssBytes?.value ?? 0n) > HELD_BYTES);
        assert((memory?.availableBytes?.value ?? 0n) < resources.memoryLimitInBytes - HELD_BYTES);
        assert((memory?.pageFaults?.value ?? 0n) > 0n);
        assertEquals(swap?.swapUsageBytes?.value, 0n);
        break;
      }
      await delay(100);
    }
    const { podMetrics } = await client.call("listPodSandboxMetrics");
    const metrics = podMetrics.find(({ podSandboxId }) => podSandboxId === pod.id)
      ?.containerMetrics[0]?.metrics;
    const metric = (wanted: string) =>
      metrics?.find(({ name }) => name === wanted)?.value?.value ?? -1n;
    assert(metric("container_memory_max_usage_bytes") > HELD_BYTES);
    assert(metric("container_threads") >= metric("container_processes"));
    assert(metric("container_processes") > 0n);
    assertEquals(metric("container_cpu_cfs_throttled_periods_total"), 0n);
    await client.call("stopContainer", { containerId: small, timeout: 10n });
    const metadata = { name: "greedy", attempt: 0 };
    const greedy = await client.create(pod, "exec tail /dev/zero", {
      metadata,
      linux: { resources },
    });
    await client.call("startContainer", { containerId: greedy });
    const ends = [await client.status(small), await client.exited(greedy)];
    assertEquals(ends.map(({ exitCode, reason }) => [exitCode, reason]), [
      [3, "Error"],
      [137, "OOMKilled"],
    ]);
  }));

Deno.test("a pod's shared memory stays when other pods come and go", () =>
  onNode(async ({ client }) => {
    const { pod, id } = await client.runContainer("sleep 1000");
    const cmd = ["/bin/sh", "-c", "echo kept >/dev/shm/file"];
    await client.call("execSync", { containerId: id, cmd });
    const onNode = { securityContext: { namespaceOptions: { ipc: NamespaceMode.NODE } } };
    for (const linux of [onNode, {}, onNode]) {
      const { id } = await client.runPod(client.podConfig({ linux }));
      await client.call("removePodSandbox", { podSandboxId: id });
    }
    await client.call("stopContainer", { containerId: id, timeout: 0n });
    const changes = { metadata: { name: "later", attempt: 0 }, logPath: "later.log" };
    const later = await client.create(pod, "exec grep -q kept /dev/shm/file", changes);
    await client.call("startContainer", { containerId: later });
    assertEquals((await client.exited(later)).exitCode, 0);
  }));
