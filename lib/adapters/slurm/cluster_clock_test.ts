import { assertEquals } from "@std/assert";
import { CriError } from "../../base/error.ts";
import { TestClock } from "../../base/test_clock.ts";
import { ClusterClock } from "./cluster_clock.ts";
import { TestCluster } from "./test_cluster.ts";
import { exit, NOW_MS, START, watchTest } from "./test_watched.ts";

const HOUR_MS = 3_600_000;

/** What was heard one after the other, and by how much the cluster's clock is then taken to be ahead. */
const CASES: [when: string, heard: [aheadMs: number, answerMs: number][], aheadMs: number][] = [
  ["nothing was heard", [], 0],
  ["clocks agree", [[0, 100]], 0],
  ["they differ by no more than can be told", [[1_500, 400]], 0],
  ["the cluster's is ahead", [[HOUR_MS, 0]], HOUR_MS + 500],
  ["the cluster's is behind", [[-HOUR_MS, 1_000]], -HOUR_MS + 1_000],
  ["it is heard again, a little otherwise", [[HOUR_MS, 0], [HOUR_MS - 1_000, 0]], HOUR_MS + 500],
  ["it was set right", [[HOUR_MS, 0], [0, 0]], 500],
  ["the answer took too long", [[HOUR_MS, 6_000]], 0],
  ["ours was set back while it answered", [[0, -HOUR_MS]], 0],
];
for (const [when, heard, aheadMs] of CASES) {
  Deno.test(`ClusterClock takes the cluster's clock to be ${aheadMs} ms ahead when ${when}`, async () => {
    await using cluster = await TestCluster.create();
    const clock = new TestClock(NOW_MS);
    const theirs = new ClusterClock(cluster.session, clock);
    for (const [ahead, answerMs] of heard) {
      const askedMs = clock.now();
      clock.advance(answerMs);
      theirs.hear(`${Math.floor((clock.now() + ahead) / 1000)}\nmore\n`, askedMs);
    }
    assertEquals(theirs.ours(NOW_MS), NOW_MS - aheadMs);
  });
}

Deno.test("ClusterClock asks once, and again when the cluster did not answer", async () => {
  await using cluster = await TestCluster.create();
  const clock = new TestClock(NOW_MS);
  const theirs = new ClusterClock(cluster.session, clock);
  cluster.offline = new CriError("UNAVAILABLE", "no route");
  await theirs.learn();
  cluster.offline = undefined;
  await cluster.fake("clock", `${NOW_MS / 1_000 + 7_200}\n`);
  for (let i = 0; i < 3; i++) await theirs.learn();
  assertEquals(theirs.ours(NOW_MS), NOW_MS - 2 * HOUR_MS - 500);
  assertEquals(await cluster.calls("date"), 1);
});

for (const words of ["", "noise\n", "-5\n", "1e9\n"]) {
  Deno.test(`ClusterClock learns nothing when date says ${JSON.stringify(words)}`, async () => {
    await using cluster = await TestCluster.create();
    await cluster.fake("clock", words);
    const theirs = new ClusterClock(cluster.session, new TestClock(NOW_MS));
    await theirs.learn();
    assertEquals(theirs.ours(5), 5);
  });
}

for (const aheadMs of [-2 * HOUR_MS, 2 * HOUR_MS]) {
  watchTest(
    `tells an end by the node's clock when the cluster's is ${aheadMs} ms ahead`,
    async (watched) => {
      const { cluster, clock } = watched;
      const say = () => cluster.fake("clock", `${Math.floor((clock.now() + aheadMs) / 1000)}\n`);
      await say();
      await watched.queue("RUNNING|N/A|10|n1|None");
      await watched.write("status/start", START);
      await watched.pass();
      await say();
      await watched.pass();
      const endedMs = clock.now();
      const time = ((endedMs + aheadMs) / 1000).toFixed(3);
      await watched.write("status/exit", exit(4).replace(/time=.*/, `time=${time}`));
      await watched.pass(1_000);
      const state = watched.state();
      assertEquals(state?.phase, "exited");
      if (state?.phase !== "exited") return;
      assertEquals(
        Math.abs(state.finishedAtMs - endedMs) <= 1_000,
        true,
        String(state.finishedAtMs),
      );
    },
  );
}
