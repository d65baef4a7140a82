/** Containers on the node itself whose logs lie on a disk that is full for a while. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { type NodeServer, prepareNode } from "../../scripts/lab/node_server.ts";
import type { CriClient, Pod } from "../cri_client.ts";
import { lab, logged, onNode } from "../on_node.ts";

Deno.test.beforeAll(() => prepareNode(lab, () => {}));

const FAILED = "Cannot copy a container's output into its log";
const WHOLE = "A container's output is copied into its log again";
const LINES = 4_000;
const ALL = Array.from({ length: LINES }, (_, index) => `${index + 1}\n`).join("");

async function run(script: string, ...args: string[]): Promise<void> {
  assertEquals((await lab.exec("knode", ["sh", "-euc", script, "sh", ...args])).code, 0, script);
}

/** A pod whose logs have 64 KiB of room, until it gets more. */
async function withSmallLog(
  use: (test: {
    server: NodeServer;
    client: CriClient;
    pod: Pod;
    giveRoom: () => Promise<void>;
    said: (words: string) => Promise<number>;
  }) => Promise<void>,
): Promise<void> {
  let place: string | undefined;
  try {
    await onNode(async ({ server, client }) => {
      const config = client.podConfig();
      place = config.logDirectory;
      await run('mkdir -p "$1" && mount -t tmpfs -o size=64k small "$1"', place);
      const pod = await client.runPod(config);
      const giveRoom = () => run('mount -o remount,size=10m "$1"', config.logDirectory);
      const said = async (words: string) =>
        (await Deno.readTextFile(lab.path("knode", server.logPath))).split(words).length - 1;
      await use({ server, client, pod, giveRoom, said });
    });
  } finally {
    if (place !== undefined) await lab.exec("knode", ["umount", "-l", place]);
  }
}

async function until(holds: () => Promise<boolean>): Promise<void> {
  for (const deadline = performance.now() + 60_000; !await holds();) {
    assert(performance.now() < deadline, String(holds));
    await delay(100);
  }
}

Deno.test("what a full disk takes of a log are whole lines, and the rest comes when there is room, after the end and a restart too", () =>
  withSmallLog(async ({ server, client, pod, giveRoom, said }) => {
    const id = await client.create(pod, `seq ${LINES}; exit 4`);
    await client.call("startContainer", { containerId: id });
    assertEquals((await client.exited(id)).exitCode, 4);
    const part = await logged(pod, "stdout");
    assert(part.length > 0 && ALL.startsWith(part) && part !== ALL);
    assertEquals(await said(FAILED), 1);
    await server.stop();
    await server.start();
    await until(async () => await said(FAILED) === 2);
    await giveRoom();
    await until(async () => await said(WHOLE) === 1);
    assertEquals(await logged(pod, "stdout"), ALL);
    assertEquals([await said(FAILED), await said("Output is lost")], [2, 0]);
  }));

Deno.test("a log is rotated while its disk is full and the server is away, and nothing is lost or written twice", () =>
  withSmallLog(async ({ server, client, pod, giveRoom, said }) => {
    const id = await client.create(pod, `seq ${LINES}; sleep 1000`);
    await client.call("startContainer", { containerId: id });
    await until(async () => await said(FAILED) === 1);
    const path = `${pod.config.logDirectory}/main.log`;
    await server.stop();
    await run('mv -- "$1" "$1.1"', path);
    await server.start();
    await client.call("reopenContainerLog", { containerId: id });
    await giveRoom();
    await until(async () => await said(WHOLE) === 1);
    const texts = [await logged(pod, "stdout", "main.log.1"), await logged(pod, "stdout")];
    assertEquals(texts.join(""), ALL);
    await client.call("stopContainer", { containerId: id, timeout: 0n });
    assertEquals(
      await client.outcome("reopenContainerLog", { containerId: id }),
      "FAILED_PRECONDITION",
    );
  }));

Deno.test("what a full disk did not take is told when the container is removed", () =>
  withSmallLog(async ({ client, pod, said }) => {
    const id = await client.create(pod, `seq ${LINES}`);
    await client.call("startContainer", { containerId: id });
    await client.exited(id);
    await client.call("removeContainer", { containerId: id });
    assertEquals(await said("Output is lost that a container's log could not take"), 1);
  }));

Deno.test("CreateContainer refuses a log behind a link out of the logs' folder, and leaves nothing there", () =>
  onNode(async ({ client }) => {
    const config = client.podConfig();
    const elsewhere = `/tmp${config.logDirectory}`;
    await run('mkdir -p -- "$2" "${1%/*}" && ln -s "$2" "$1"', config.logDirectory, elsewhere);
    const pod = await client.runPod(config);
    await assertRejects(
      () => client.create(pod, "true"),
      Error,
      `Cannot write the log "${config.logDirectory}/main.log": ${config.logDirectory} is a link to ` +
        `${elsewhere}, out of --pod-logs-dir (/var/log/pods).`,
    );
    await run(
      '[ -z "$(ls -A "$2")" ] && rm -- "$1" && rmdir -- "$2"',
      config.logDirectory,
      elsewhere,
    );
  }));
