/** What containers on the node itself are given and use. */
import { assert, assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import { prepareNode } from "../../scripts/lab/node_server.ts";
import { lab, logged, onNode } from "../on_node.ts";

const POLL_MS = 50;

Deno.test.beforeAll(() => prepareNode(lab, () => {}));

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
    const { startedAt } = await client.status(id);
    assert(found.timestamp >= startedAt);
    const { stats } = await client.call("listContainerStats", { filter: { id } });
    assertEquals(stats[0]?.writableLayer, found);
  }));
