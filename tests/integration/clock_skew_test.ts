/** A node whose clock differs from the cluster's. */
import { assert, assertEquals } from "@std/assert";
import { Harness } from "./harness.ts";

const FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
const HOUR_MS = 3_600_000;
/** How long the job runs, and how exactly the cluster's clock is known. */
const RUNS_MS = 4_000;
const KNOWN_MS = 2_000;
/** No step of the test takes so long, and no skew is so small. */
const SOON_MS = 10 * 60_000;

for (const hours of [-3, 3]) {
  Deno.test(`times are the node's when its clock is ${Math.abs(hours)} hours ${hours < 0 ? "behind" : "ahead"}`, async () => {
    const harness = await Harness.start({
      name: hours < 0 ? "early" : "late",
      flags: ["--usage-interval", "1"],
      env: {
        LD_PRELOAD: FAKETIME,
        FAKETIME: `${hours < 0 ? "" : "+"}${hours * 3600}`,
        FAKETIME_DONT_FAKE_MONOTONIC: "1",
        // One program in 30 crashes, or waits for ever, over the memory and semaphore that libfaketime
        // names by its pid and would share with its children; none of 1,500 does without them.
        FAKETIME_DISABLE_SHM: "1",
      },
    });
    try {
      const now = () => Date.now() + hours * HOUR_MS;
      const beganMs = now();
      const script = `i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; sleep ${
        RUNS_MS / 1000
      }; exit 5`;
      const made = await harness.run({ command: ["/bin/sh", "-c", script] });
      let measuredMs = 0;
      await harness.until(made.container, "measured", async () => {
        const text = await harness.server.crictlOk(["stats", "-o", "json", "--id", made.container]);
        const [{ cpu }] = JSON.parse(text).stats;
        measuredMs = Number(BigInt(cpu.timestamp) / 1_000_000n);
        return Number(cpu.usageCoreNanoSeconds?.value ?? 0) > 0;
      });
      assert(Math.abs(measuredMs - now()) < SOON_MS, `measured at ${new Date(measuredMs)}`);
      const { status } = await harness.exited(made.container);
      assertEquals([status.exitCode, status.reason], [5, "Error"]);
      const [createdMs, startedMs, finishedMs] = [
        status.createdAt,
        status.startedAt,
        status.finishedAt,
      ].map((time) => Date.parse(time)) as [number, number, number];
      const times = [beganMs - 1, createdMs, startedMs, finishedMs, now() + 1];
      assertEquals(times, times.toSorted((a, b) => a - b));
      assert(finishedMs - startedMs > RUNS_MS - KNOWN_MS, `${startedMs} to ${finishedMs}`);
      const log = await Deno.readTextFile(harness.lab.path("knode", status.logPath));
      for (const line of log.trim().split("\n")) {
        const ms = Date.parse(line.split(" ", 1)[0] ?? "");
        assert(ms >= beganMs - 1 && ms <= now() + 1, line);
      }
      await harness.removeCleanly(made);
    } finally {
      await harness.stop();
    }
  });
}
