/** What becomes of what a job's node tells; the node is played, its files are those of a test cluster. */
import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { delay } from "@std/async/delay";
import { TestClock } from "../../base/test_clock.ts";
import { createLogger } from "../../base/log.ts";
import { ContainerLog } from "../../logs/container_log.ts";
import { TestStore } from "../../store/test_store.ts";
import type { ClusterAccount } from "./account.ts";
import { OutputFollower, readTurns } from "./follow.ts";
import { NodeFollower } from "./node_follower.ts";
import { TestCluster } from "./test_cluster.ts";
import { frame, PlayedNode } from "./test_played_node.ts";

interface Place {
  node: PlayedNode;
  follower: NodeFollower;
  clock: TestClock;
  log: ContainerLog;
  write(text: string): Promise<void>;
  /** A look at the files. */
  look(final?: boolean): Promise<void>;
  lines(): Promise<string[]>;
}

function followerTest(
  name: string,
  use: (place: Place) => Promise<void>,
  maxLogBytes = Infinity,
): void {
  Deno.test(`NodeFollower ${name}`, async () => {
    await using cluster = await TestCluster.create();
    await using records = await TestStore.open();
    const clock = new TestClock();
    const path = records.path("0.log");
    const log = new ContainerLog("c1", path, records.store.logPositions, clock, maxLogBytes);
    const output = new OutputFollower(cluster.home, log);
    const node = new PlayedNode();
    const follower = new NodeFollower(
      { containerId: "c1", directory: cluster.home, jobId: "17", output },
      { name: "u@h:22", lines: node.lines } as ClusterAccount,
      clock,
      createLogger({ threshold: "error", write: () => {} }),
    );
    const source = { session: cluster.session, turns: readTurns() };
    try {
      await node.asked(1);
      await use({
        node,
        follower,
        clock,
        log,
        write: (text) => Deno.writeTextFile(join(cluster.home, "stdout"), text, { append: true }),
        look: async (final = false) => {
          if (final) await follower.finish();
          await output.follow(source, { certain: true, final });
        },
        lines: async () => {
          const text = await Deno.readTextFile(path).catch(() => "");
          return text.split("\n").slice(0, -1).map((line) => line.slice(line.indexOf(" ") + 1));
        },
      });
    } finally {
      await follower.stop();
      await follower.ended;
      await log.close();
    }
  });
}

followerTest(
  "copies whole lines as they come, and the rest once the end was told",
  async (place) => {
    const { node, follower, look, lines } = place;
    assertEquals([follower.live, node.requests], [false, [[
      node.requests[0]?.[0] ?? "",
      "0",
      "0",
    ]]]);
    await node.say(frame("s"), frame("o", "one\ntw"));
    assertEquals([follower.live, follower.takeLively(), follower.takeLively()], [
      true,
      true,
      false,
    ]);
    await node.say(frame("o", "o\nthr"), frame("e", "oops\n"));
    assertEquals(await lines(), ["stdout F one", "stdout F two", "stderr F oops"]);
    await follower.finish();
    assertEquals((await lines()).length, 3);
    await node.say(frame("o", "ee"), frame("b", "start\0exit"));
    assertEquals(new TextDecoder().decode(follower.status("exit")), "exit");
    // The login host does not know any of it yet.
    await look(true);
    assertEquals((await lines()).slice(3), ["stdout F three"]);
  },
);

followerTest("and looks at the files copy each byte once, whoever is further", async (place) => {
  const { node, write, look, lines, clock } = place;
  await node.say(frame("s"), frame("o", "one\ntw"));
  await write("one\ntwo\nthree\nfo");
  await look();
  await node.say(frame("o", "o\nthree\n"));
  await node.say(frame("o", "four\nfive\n"));
  const expected = ["one", "two", "three", "four", "five"].map((word) => `stdout F ${word}`);
  assertEquals(await lines(), expected);
  node.end();
  clock.advance(0);
  await delay(1);
  const again = setInterval(() => clock.advance(5_000), 5);
  await node.asked(2).finally(() => clearInterval(again));
  assertEquals(node.requests[1]?.slice(1), ["24", "0"]);
});

followerTest("leaves what has not all come to those who read the files", async (place) => {
  const { node, write, look, lines, follower } = place;
  await node.say(frame("s"), frame("o", "unfin"));
  node.end();
  while (follower.live) await delay(1);
  await write("unfinished");
  await look(true);
  assertEquals(await lines(), ["stdout F unfinished"]);
});

followerTest("asks ever more seldom while no step begins", async (place) => {
  const { node, clock, follower } = place;
  for (const [step, pauseMs] of [5_000, 10_000, 20_000, 40_000].entries()) {
    node.end();
    await clock.sleeping(pauseMs);
    clock.advance(pauseMs);
    await node.asked(step + 2);
  }
  await node.say(frame("s"));
  assertEquals(follower.live, true);
  node.end();
  await clock.sleeping(5_000);
});

followerTest("waits while the log is full, and lets go when it is stopped", async (place) => {
  const { node, follower, log, clock, lines } = place;
  let passed = 0;
  const said = node.say(frame("s"), frame("o", "one\n"), frame("o", "two\n")).then(() => passed++);
  while (!log.isFull) await delay(1);
  assertEquals([passed, await lines()], [0, ["stdout F one"]]);
  clock.advance(500);
  await delay(5);
  assertEquals(passed, 0);
  await follower.stop();
  await said;
  assertEquals(await lines(), ["stdout F one"]);
}, 10);
