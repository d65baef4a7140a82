import { assertEquals, assertMatch } from "@std/assert";
import { createLogger } from "../../base/log.ts";
import { TestClock } from "../../base/test_clock.ts";
import { createLocalExecutor } from "../../executors/local.ts";
import type { Executor } from "../../executors/executor.ts";
import { PodTraffic } from "./pod_traffic.ts";

const HEADER = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
`;
const LO = "    lo:   84  1  0  0 0 0 0 0   84  1 0 0 0 0 0 0\n";
const NET1 = "net1: 18446744073709551615 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15\n";
const ETH0 =
  "  eth0:    1066      15    0    1    0     0          0         0 20    3    0    0    0   0  0 0\n";

const flow = (bytes: bigint, packets: bigint, errors: bigint, dropped: bigint) => ({
  bytes,
  packets,
  errors,
  dropped,
});
const ETH0_TRAFFIC = {
  name: "eth0",
  received: flow(1066n, 15n, 0n, 1n),
  sent: flow(20n, 3n, 0n, 0n),
};
const NET1_TRAFFIC = {
  name: "net1",
  received: flow(2n ** 64n - 1n, 1n, 2n, 3n),
  sent: flow(8n, 9n, 10n, 11n),
};

/** A measurement whose program says this, or fails with it. */
function test(answer: { code: number; text: string }) {
  const clock = new TestClock();
  const warnings: string[] = [];
  const log = createLogger({ threshold: "warning", write: (line) => warnings.push(line) });
  const executor: Executor = {
    run: () => {
      const bytes = new TextEncoder().encode(answer.text);
      const nothing = new Uint8Array();
      const [stdout, stderr] = answer.code === 0 ? [bytes, nothing] : [nothing, bytes];
      return Promise.resolve({ code: answer.code, stdout, stderr });
    },
  };
  const traffic = new PodTraffic(executor, clock, log);
  const paths = new Map(["a", "b", "c"].map((id) => [id, `/run/netns/${id}`]));
  return { clock, warnings, traffic, measure: () => traffic.measure(() => paths) };
}

Deno.test("PodTraffic.measure() tells interfaces without the loopback, eth0 first, of the namespaces that are there", async () => {
  const text = `pod 0\n${HEADER}${LO}${NET1}${ETH0}pod 2\n${HEADER}${LO}`;
  const { clock, traffic, measure, warnings } = test({ code: 0, text });
  await measure();
  assertEquals(["a", "b", "c"].map((id) => traffic.of(id)), [
    { measuredAtMs: clock.now(), interfaces: [ETH0_TRAFFIC, NET1_TRAFFIC] },
    undefined,
    { measuredAtMs: clock.now(), interfaces: [] },
  ]);
  assertEquals(warnings, []);
});

Deno.test("PodTraffic.measure() forgets what it cannot measure any more, and says so once", async () => {
  const answer = { code: 0, text: `pod 0\n${ETH0}` };
  const { clock, traffic, measure, warnings } = test(answer);
  await measure();
  assertEquals(traffic.of("a")?.interfaces, [ETH0_TRAFFIC]);
  Object.assign(answer, { code: 2, text: "no perl\n" });
  for (let times = 0; times < 2; times++) {
    clock.advance(1000);
    await measure();
    assertEquals(traffic.of("a"), undefined);
  }
  assertEquals(warnings.length, 1);
  assertMatch(warnings[0] ?? "", /Cannot measure the networks of pods: .*no perl/);
});

Deno.test("PodTraffic.measure() leaves out a path that is no network namespace", async () => {
  const log = createLogger({ threshold: "error", write: () => {} });
  const traffic = new PodTraffic(createLocalExecutor(), new TestClock(), log);
  await traffic.measure(() => new Map([["none", "/nowhere"], ["file", "/dev/null"]]));
  assertEquals([traffic.of("none"), traffic.of("file")], [undefined, undefined]);
});
