import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { TestClock } from "../../base/test_clock.ts";
import { ContainerLog } from "../../logs/container_log.ts";
import { TestStore } from "../../store/test_store.ts";
import { copyOutput } from "./output.ts";

Deno.test("copyOutput() copies what is new, whole lines first, the rest at the end, and no more than the log takes", async () => {
  await using records = await TestStore.open();
  const clock = new TestClock();
  const path = records.path("out");
  const logPath = join(records.path("logs"), "main.log");
  const { logPositions } = records.store;
  const open = (maxBytes?: number) =>
    new ContainerLog("c1", logPath, logPositions, clock, maxBytes);
  const texts = async () =>
    (await Deno.readTextFile(logPath)).split("\n").slice(0, -1)
      .map((line) => line.split(" ").slice(1).join(" "));
  let log = open();
  await copyOutput(path, "stdout", log, false);
  await Deno.writeTextFile(path, "one\ntw");
  await copyOutput(path, "stdout", log, false);
  assertEquals(await texts(), ["stdout F one"]);
  await log.close();
  // Another server goes on where this one was.
  log = open();
  await Deno.writeTextFile(path, "o\nthree", { append: true });
  await copyOutput(path, "stdout", log, false);
  assertEquals(await texts(), ["stdout F one", "stdout F two"]);
  await copyOutput(path, "stdout", log, true);
  assertEquals((await texts()).at(-1), "stdout F three");
  await log.close();
  log = open(1);
  await log.prepare();
  await Deno.writeTextFile(path, "\nfour\n", { append: true });
  await copyOutput(path, "stdout", log, true);
  assertEquals((await texts()).length, 3);
  await log.close();
});
