import { assertEquals } from "@std/assert";
import { exit, START, type Watched, watchTest } from "./test_watched.ts";

const WAITS = "PENDING|N/A|10||BeginTime";
const NEXT_START = START.replace("n1", "n2").replace("1767312000.5", "1767312100.5");
const NEXT_EXIT = exit(3).replace("1767312000.75", "1767312101");

/** The job runs again, and ends. */
async function nextRun(watched: Watched): Promise<void> {
  await watched.queue("RUNNING|N/A|10|n2|None");
  await watched.write("status/start", NEXT_START);
  await watched.pass();
  assertEquals([watched.workload().job?.host, watched.end()], ["n2", undefined]);
  await watched.write("status/exit", NEXT_EXIT);
  await watched.pass();
  assertEquals(watched.end(), [3, "Error"]);
}

watchTest("takes a job that waits again for one that has not ended", async (watched) => {
  await watched.write("status/start", START);
  await watched.pass();
  await watched.queue(WAITS);
  await watched.pass();
  const { job, pending } = watched.workload();
  assertEquals([job, pending?.reason], [undefined, "BeginTime"]);
  assertEquals(watched.notes.slice(-2), [
    "c1: job 101 was put back into the queue by Slurm",
    "c1: job 101 waits: BeginTime, priority 10",
  ]);
  // What the first run left is still there.
  await watched.pass();
  assertEquals(watched.workload().job, undefined);
  await Deno.remove(`${watched.cluster.home}/c1/status/start`);
  await nextRun(watched);
});

watchTest("takes the exit of a run that Slurm ended to run it again for none", async (watched) => {
  await watched.write("status/start", START);
  await watched.pass();
  await watched.cluster.fake("jobs/101/scontrol", "JobId=101 JobState=COMPLETING");
  await watched.write("status/exit", exit(143, "signal=TERM\n"));
  await watched.pass(1_000);
  await watched.cluster.fake("jobs/101/scontrol", "JobId=101 JobState=PENDING");
  await watched.queue(WAITS);
  await watched.pass(1_000);
  assertEquals([watched.end(), watched.workload().job], [undefined, undefined]);
  for (let i = 0; i < 3; i++) await watched.pass();
  assertEquals(watched.state()?.phase, "running");
  await Deno.remove(`${watched.cluster.home}/c1/status/exit`);
  await nextRun(watched);
});

watchTest("takes a job that is being configured for none that waits again", async (watched) => {
  await watched.write("status/start", START);
  await watched.queue("CONFIGURING|N/A|10|n1|None");
  await watched.pass();
  assertEquals(watched.workload().job?.host, "n1");
});
