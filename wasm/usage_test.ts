/** What a job writes down of its use. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { join } from "@std/path";
import { TestJob, until } from "./test_job.ts";

/** A runtime whose child takes some of the processor's time and ends; it goes on until the file `done` is there. */
const BUSY_RUNTIME = `( for ((i = 0; i < 300000; i++)); do :; done )
sleep 1000 &
echo ready >ready
until [[ -e done ]]; do sleep 0.05; done
kill $!`;

Deno.test("a job tells what its program and its children use, ended ones too", async () => {
  await using job = await TestJob.create({ runtime: BUSY_RUNTIME });
  const process = job.start();
  await job.waitFor("ready", "ready\n");
  const counted = async () => Number((await job.status("usage")).processes) >= 2;
  await until("its use is told", counted);
  const usage = await job.status("usage");
  assertMatch(usage.time ?? "", /^\d{10}\.\d{9}$/);
  const figure = (name: string) => Number(usage[name] ?? "none");
  assert(figure("cpu") > 0 && figure("minor") > 0, JSON.stringify(usage));
  assert(figure("own") > 0 && figure("resident") > figure("own"), JSON.stringify(usage));
  assertMatch(usage.major ?? "", /^\d+$/);
  await until("it is told again", async () => (await job.status("usage")).time !== usage.time);
  assert(Number((await job.status("usage")).cpu) >= figure("cpu"));
  await Deno.writeTextFile(join(job.directory, "done"), "");
  assertEquals((await process.status).code, 0);
});

Deno.test("a job tells nothing of its use when that is switched off", async () => {
  await using job = await TestJob.create({ runtime: "sleep 1.5", job: { usageSeconds: 0 } });
  assertEquals(await job.run(), 0);
  assertEquals(await job.read("status/usage"), undefined);
});
