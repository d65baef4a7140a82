import { assertEquals, assertStringIncludes } from "@std/assert";
import { CriError } from "../../base/error.ts";
import { exit, LONG_MS, NOW_MS, START, watchTest } from "./test_watched.ts";

watchTest(
  "notes why a job waits, and all about it no more often than in five minutes",
  async (watched) => {
    await watched.pass();
    await watched.queue("PENDING|N/A|11||Priority");
    await watched.pass();
    assertEquals(watched.workload().pending?.priority, "11");
    await watched.queue("PENDING|2026-01-02T04:00:00|11||Resources");
    await watched.pass();
    await watched.queue("PENDING|2026-01-02T04:00:00|11||None");
    await watched.pass();
    assertEquals(watched.notes, [
      "c1: job 101 waits: Priority, priority 10",
      "c1: job 101 waits: Resources, priority 11, expected start 2026-01-02T04:00:00",
    ]);
    await watched.queue("PENDING|2026-01-02T05:00:00|12||Resources");
    await watched.pass();
    assertEquals(watched.notes.length, 2);
    assertEquals(watched.workload().pending?.expectedStart, "2026-01-02T05:00:00");
    await watched.pass(5 * 60_000);
    await watched.queue("PENDING|2026-01-02T05:00:00|13||Resources");
    await watched.pass();
    assertEquals(watched.notes.slice(2), [
      "c1: job 101 waits: Resources, priority 13, expected start 2026-01-02T05:00:00",
    ]);
    assertEquals(watched.state()?.phase, "running");
  },
);

watchTest(
  "asks Slurm once in a while only, and more often while a job is being stopped",
  async (watched) => {
    for (let i = 0; i < 4; i++) await watched.pass(1_100);
    assertEquals(await watched.cluster.calls("squeue"), 1);
    await watched.pass(1_100);
    assertEquals(await watched.cluster.calls("squeue"), 2);
    watched.stop(false);
    for (let i = 0; i < 4; i++) await watched.pass(1_100);
    assertEquals(await watched.cluster.calls("squeue"), 6);
  },
);

watchTest("copies output while Slurm does not answer", async (watched) => {
  await watched.write("status/start", START);
  await watched.cluster.fake("squeue.waits", "");
  await watched.queue("RUNNING|N/A|10|n1|None");
  const asked = watched.pass();
  await watched.cluster.called("squeue", 2);
  watched.clock.advance(100);
  await asked;
  await watched.write("stdout", "meanwhile\n");
  const looked = watched.pass(1_000);
  await watched.clock.sleeping(100);
  watched.clock.advance(100);
  await looked;
  const log = await Deno.readTextFile(watched.records.path("c1.log"));
  assertStringIncludes(log, "stdout F meanwhile\n");
  await watched.cluster.fake("partition", "big");
  await watched.cluster.fake("squeue.waits", undefined);
  while (watched.workload().partition !== "big") await watched.pass(1_000);
  assertEquals(await watched.cluster.calls("squeue"), 2);
});

watchTest("tells where the job runs, once", async (watched) => {
  await watched.queue("RUNNING|N/A|10|n1|None");
  await watched.write("status/start", START);
  await watched.pass();
  await watched.pass();
  assertEquals(watched.notes.slice(1), ["c1: job 101 runs on n1"]);
  const { job, pending, slurmState } = watched.workload();
  assertEquals(job, { host: "n1", startedAtMs: 1_767_312_000_500 });
  assertEquals([pending, slurmState], [undefined, "RUNNING"]);
});

watchTest("notes in which queue the job is", async (watched) => {
  assertEquals(watched.workload().partition, "main");
  await watched.write("status/start", START);
  await watched.queue("RUNNING|N/A|10|n1|None");
  await watched.cluster.fake("partition", "big");
  await watched.pass();
  assertEquals([watched.workload().partition, watched.workload().job?.host], ["big", "n1"]);
});

watchTest("lets a job live that Slurm put back into the queue", async (watched) => {
  await watched.write("status/start", START);
  await watched.queue("NODE_FAIL|N/A|10|n1|None");
  await watched.cluster.fake("jobs/101/scontrol", "JobState=PENDING ExitCode=0:0");
  for (let i = 0; i < 3; i++) await watched.pass();
  assertEquals(watched.state()?.phase, "running");
});

watchTest("forgets an end that Slurm took back", async (watched) => {
  await watched.queue(undefined);
  await watched.pass();
  await watched.queue("RUNNING|N/A|10|n1|None");
  await watched.pass();
  await watched.queue(undefined);
  await watched.pass();
  assertEquals(watched.state()?.phase, "running");
});

watchTest("keeps every state while the cluster cannot be reached", async (watched) => {
  watched.cluster.offline = new CriError("UNAVAILABLE", "no route");
  await watched.queue(undefined);
  for (let i = 0; i < 3; i++) await watched.pass();
  assertEquals(watched.state()?.phase, "running");
  assertEquals(watched.watch.staleSince, { atMs: NOW_MS + LONG_MS, error: "no route" });
  watched.cluster.offline = undefined;
  await watched.write("status/exit", exit(0));
  await watched.pass();
  assertEquals([watched.end(), watched.watch.staleSince], [[0, "Completed"], undefined]);
});

for (const program of ["squeue", "scontrol"]) {
  watchTest(`keeps every state while ${program} fails`, async (watched) => {
    if (program === "scontrol") await watched.queue(undefined);
    await watched.cluster.fake(`${program}.fails`, "Unable to contact slurm controller\n");
    for (let i = 0; i < 3; i++) await watched.pass();
    assertEquals(watched.state()?.phase, "running");
    assertStringIncludes(watched.watch.staleSince?.error ?? "", "Unable to contact");
  });
}

const UNWRITTEN = "Cannot copy a container's output into its log; it is kept and tried again";

watchTest("ends a job whose log cannot be written, and says what is lost", async (watched) => {
  await Deno.mkdir(watched.records.path("c1.log"));
  await watched.write("stdout", "lost\n");
  await watched.write("status/exit", exit(5));
  await watched.pass();
  assertEquals(watched.end(), [5, "Error"]);
  assertEquals(watched.said, [UNWRITTEN, "Output is lost that a container's log could not take"]);
});

watchTest("copies what a log could not take for a while, and says so once", async (watched) => {
  const path = watched.records.path("c1.log");
  await Deno.mkdir(path);
  await watched.write("status/start", START);
  await watched.write("stdout", "one\n");
  for (let looks = 0; looks < 3; looks++) await watched.pass(500);
  assertEquals(watched.said, [UNWRITTEN]);
  await Deno.remove(path);
  await watched.pass(2_000);
  assertEquals((await Deno.readTextFile(path)).match(/one$/gm), ["one"]);
  assertEquals(watched.said.slice(1), [
    "A container's output is copied into its log again, and nothing is missing",
  ]);
});

watchTest(
  "reports an end that lies before the start on this node's clock as no earlier",
  async (watched) => {
    await watched.write("status/exit", "job=101\ncode=0\ntime=5\n");
    await watched.pass();
    const state = watched.state();
    assertEquals(state?.phase === "exited" && state.finishedAtMs, NOW_MS);
  },
);

watchTest("looks no more at a job that was removed", async (watched) => {
  watched.watch.remove("c1");
  await watched.write("status/exit", exit(0));
  await watched.add("c2", "102");
  await watched.pass();
  assertEquals(watched.state()?.phase, "running");
});
