/** Containers on the node itself whose logs, disks and file systems fail. */
import { DatabaseSync } from "node:sqlite";
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { ContainerState } from "../../lib/cri/api.generated.ts";
import { prepareNode } from "../../scripts/lab/node_server.ts";
import { randomSource, seedFor } from "../../wasm/test_random.ts";
import { IMAGE } from "../cri_client.ts";
import { lab, onNode } from "../on_node.ts";

Deno.test.beforeAll(() => prepareNode(lab, () => {}));

Deno.test("output that a full log does not take comes when the log is rotated, also after the end", () =>
  onNode(async ({ client }) => {
    // A log takes a mebibyte at a time.
    const count = 300_000;
    const { pod, id } = await client.runContainer(`seq ${count}; exit 3`);
    const path = lab.path("knode", `${pod.config.logDirectory}/main.log`);
    const files: string[] = [];
    while ((await client.status(id)).state === ContainerState.CONTAINER_RUNNING) {
      const text = await Deno.readTextFile(path).catch(() => "");
      if (!text.includes("multicri: the log is full")) {
        await delay(20);
        continue;
      }
      files.push(text);
      await Deno.rename(path, `${path}.${files.length}`);
      // It may have ended meanwhile.
      await client.outcome("reopenContainerLog", { containerId: id });
    }
    assertEquals((await client.exited(id)).exitCode, 3);
    assert(files.length >= 2, `${files.length} rotations`);
    files.push(await Deno.readTextFile(path));
    const told = files.join("").match(/ stdout F .*/g) ?? [];
    const wrong = told.findIndex((line, index) => line !== ` stdout F ${index + 1}`);
    assertEquals([told.length, wrong], [count, -1]);
  }, { flags: ["--max-log-bytes", "4000"] }));

Deno.test("full disks do not keep a container's end from being told", async () => {
  const places: string[] = [];
  const limit = async (path: string, size: string) => {
    const script = 'mkdir -p "$1" && mount -t tmpfs -o "size=$2" small "$1"';
    assertEquals((await lab.exec("knode", ["sh", "-c", script, "sh", path, size])).code, 0);
    places.push(path);
  };
  try {
    await onNode(async ({ client }) => {
      const config = client.podConfig();
      await limit(config.logDirectory, "128k");
      const pod = await client.runPod(config);
      // It fills first the one, then the other.
      const script = "head -c 300000 /dev/zero | tr '\\0' x; cat /dev/zero >/full; exit 7";
      const id = await client.create(pod, script);
      await client.call("startContainer", { containerId: id });
      const { exitCode, reason } = await client.exited(id);
      assertEquals([exitCode, reason], [7, "Error"]);
    }, {
      before: ({ rootDir }) => limit(rootDir, "1m"),
    });
  } finally {
    for (const place of places) await lab.exec("knode", ["umount", "-l", place]);
  }
});

Deno.test("a command that hangs as it begins is answered in time, and leaves nothing", () =>
  onNode(async ({ server, client }) => {
    const sh = async (script: string, ...args: string[]) => {
      const { code, stdout } = await lab.exec("knode", ["sh", "-euc", script, "sh", ...args]);
      assertEquals(code, 0, script);
      return stdout;
    };
    // A file system in user space, which does not answer when its program is stopped.
    const folder = "/tmp/on-node-files";
    const make = `mkdir -p "$1/mount"
mksquashfs /usr/lib/os-release "$1/files" -quiet -no-progress -noappend >/dev/null
squashfuse "$1/files" "$1/mount"`;
    await sh(make, folder);
    const program = async (signal: string) =>
      await sh(`pkill "-$1" -f '^squashfuse /tmp/on-node-files/files'`, signal);
    const pod = await client.runPod();
    const mounts = [{ hostPath: `${folder}/mount`, containerPath: "/files" }];
    const id = await client.create(pod, "sleep 1000", { mounts });
    await client.call("startContainer", { containerId: id });
    const leftOfCommands = () =>
      sh(
        `pgrep -f "^crun .* exec .*$1|^perl -e" || true; find "$2" -name 'exec-*' -o -name 'tty-*'`,
        id,
        server.stateDir,
      );
    const exec = { containerId: id, cmd: ["/files/os-release"] };
    await program("STOP");
    try {
      assertEquals(await client.outcome("execSync", { ...exec, timeout: 1n }), "DEADLINE_EXCEEDED");
      await assertRejects(() => client.call("execSync", exec, { deadline: 1_000 }));
    } finally {
      await program("CONT");
    }
    while (await leftOfCommands() !== "") await delay(50);
    const { exitCode } = await client.call("execSync", { ...exec, cmd: ["true"] });
    assertEquals(exitCode, 0);
    await client.call("stopContainer", { containerId: id, timeout: 0n });
    await sh('umount "$1/mount"; rm -r "$1"', folder);
  }));

Deno.test("an image that is removed while a container is made of it serves it to its end", () =>
  onNode(async ({ client }) => {
    const random = randomSource(seedFor("on_node_faults_test image"));
    const image = { image: IMAGE };
    for (let round = 0; round < 4; round++) {
      const pod = await client.runPod();
      // Nothing but the pod is left of a creation that comes too late.
      const created = client.create(pod, "exit 3").catch((error: Error) => error);
      await delay(random.below(60));
      await client.call("removeImage", { image });
      const id = await created;
      await client.call("pullImage", { image });
      if (id instanceof Error) {
        assertMatch(id.message, /it is not here, pull it first/);
        continue;
      }
      await client.call("startContainer", { containerId: id });
      assertEquals((await client.exited(id)).exitCode, 3);
    }
  }));

Deno.test("a pod's first process ends with it though somebody removed its folder, and one without a record", () =>
  onNode(async ({ server, client }) => {
    const inNode = async (script: string, ...args: string[]) =>
      (await lab.exec("knode", ["sh", "-uc", script, "sh", server.stateDir, ...args])).stdout;
    const processes = (id: string) => inNode('pgrep -f -- "-[-]pid=$1/pods/$2/pid"', id);
    const loseFolder = `cd "$1/pods"
for name in "$2"/*; do umount -l "$PWD/$name"; done 2>/dev/null
rm -rf "$2"`;
    const removed = await client.runPod();
    const forgotten = await client.runPod();
    const kept = await client.runPod();
    for (const { id } of [removed, forgotten]) {
      await inNode(loseFolder, id);
      assertMatch(await processes(id), /\d/);
    }
    await client.call("removePodSandbox", { podSandboxId: removed.id });
    assertEquals(await processes(removed.id), "");
    await server.stop();
    {
      using records = new DatabaseSync(lab.path("knode", `${server.stateDir}/pods.db`));
      records.prepare("DELETE FROM sandboxes WHERE id = ?").run(forgotten.id);
    }
    await server.start();
    assertEquals([await processes(forgotten.id), await client.pods({})], ["", [kept.id]]);
    assertMatch(await processes(kept.id), /\d/);
  }));
