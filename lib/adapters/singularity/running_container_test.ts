import { assertEquals } from "@std/assert";
import { createLogger } from "../../base/log.ts";
import { TestClock } from "../../base/test_clock.ts";
import { createLocalExecutor } from "../../executors/local.ts";
import { ContainerLog } from "../../logs/container_log.ts";
import type { ContainerEnd } from "../../store/container_state.ts";
import { TestStore } from "../../store/test_store.ts";
import { Node } from "./node.ts";
import { RunningContainer } from "./running_container.ts";

const CASES: [what: string, isSupervised: boolean, runs: boolean, code: number | undefined][] = [
  [
    "tells an end that nobody saw when its supervisor is gone and its program too",
    false,
    false,
    255,
  ],
  ["waits for its program when its supervisor is gone", false, true, undefined],
  ["waits for its supervisor when its program is gone", true, false, undefined],
];

for (const [what, isSupervised, runs, code] of CASES) {
  Deno.test(`RunningContainer ${what}`, async () => {
    await using records = await TestStore.open();
    const clock = new TestClock();
    const files = records.path("c1");
    await Deno.writeTextFile(`${files}.stdout`, "");
    using supervisor = await Deno.open(`${files}.stdout`, { append: true });
    if (isSupervised) await supervisor.lock(true);
    const ended = Promise.withResolvers<ContainerEnd>();
    const container = new RunningContainer(
      "c1",
      files,
      new ContainerLog("c1", "", records.store.logPositions, clock),
      new Node(createLocalExecutor()),
      clock,
      createLogger({ threshold: "error", write: () => {} }),
      () => Promise.resolve(runs),
      ended.resolve,
    );
    container.follow();
    for (const pauseMs of [2_000, 10]) {
      await clock.sleeping(pauseMs);
      clock.advance(pauseMs);
    }
    const end = await Promise.race([ended.promise, clock.sleeping(2_000)]);
    await container.close();
    assertEquals(end?.exitCode, code);
  });
}
