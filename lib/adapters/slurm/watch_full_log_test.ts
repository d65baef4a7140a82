/** A job that writes more than its log may hold. */
import { assertEquals } from "@std/assert";
import { exit, START, watchTest } from "./test_watched.ts";

const LINE = `${"x".repeat(99)}\n`;
const FULL = "c2: the log is full (--max-log-bytes): the output goes on when the log is rotated";

watchTest(
  "tells an end when a full log was rotated and the rest of it was copied",
  async (watched) => {
    await watched.add("c2", "102", 500);
    await watched.write("status/start", START.replace("101", "102"), "c2");
    await watched.write("stdout", LINE.repeat(3), "c2");
    await watched.pass(1_000);
    await watched.write("stdout", LINE.repeat(6), "c2");
    await watched.pass(1_000);
    await watched.write("stdout", LINE.repeat(12), "c2");
    await watched.write("status/exit", exit(0), "c2");
    await watched.pass(1_000);
    assertEquals([watched.end("c2"), watched.notes.filter((note) => note === FULL)], [undefined, [
      FULL,
    ]]);
    const path = watched.records.path("c2.log");
    await Deno.rename(path, `${path}.1`);
    await watched.logs[1]?.reopen();
    await watched.pass(1_000);
    assertEquals(watched.end("c2"), [0, "Completed"]);
    const texts = [await Deno.readTextFile(`${path}.1`), await Deno.readTextFile(path)];
    assertEquals(texts.join("").split("\n").length - 1, 12);
  },
);

watchTest("tells an end and what is left out when nobody rotates a full log", async (watched) => {
  await watched.add("c2", "102", 500);
  await watched.write("status/start", START.replace("101", "102"), "c2");
  await watched.write("stdout", LINE.repeat(6), "c2");
  await watched.pass(1_000);
  await watched.write("stdout", LINE.repeat(12), "c2");
  await watched.write("stderr", LINE.repeat(2), "c2");
  await watched.write("status/exit", exit(0), "c2");
  await watched.pass(1_000);
  await watched.pass(25_000);
  assertEquals(watched.end("c2"), undefined);
  await watched.pass(10_000);
  assertEquals(watched.end("c2"), [0, "Completed"]);
  assertEquals(watched.notes.slice(-1), [
    "c2: the log is full and nobody rotates it: 600 bytes of stdout and 200 of stderr are left out",
  ]);
});

watchTest("waits for each rotation of a log that is filled again at once", async (watched) => {
  await watched.add("c2", "102", 500);
  await watched.write("status/start", START.replace("101", "102"), "c2");
  const lines = 60_000;
  await watched.write("stdout", LINE.repeat(lines), "c2");
  await watched.write("status/exit", exit(0), "c2");
  const path = watched.records.path("c2.log");
  let copied = 0;
  for (let file = 1; watched.end("c2") === undefined; file++) {
    await watched.pass(20_000);
    copied += (await Deno.readTextFile(path)).split("\n").filter((line) =>
      / F x/.test(line)
    ).length;
    if (watched.end("c2") !== undefined) break;
    await Deno.rename(path, `${path}.${file}`);
    await watched.logs[1]?.reopen();
  }
  assertEquals(copied, lines);
});
