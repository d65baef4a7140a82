import { DatabaseSync } from "node:sqlite";
import { assertEquals, assertRejects } from "@std/assert";
import { dirname, join } from "@std/path";
import { type Clock, systemClock } from "../base/clock.ts";
import { CriError } from "../base/error.ts";
import { logPositionCodec, type LogPositionRecord } from "../store/records.ts";
import { Table } from "../store/table.ts";
import { withDiskFault } from "../store/test_failing_disk.ts";
import { ContainerLog } from "./container_log.ts";

const clock: Clock = { ...systemClock, now: () => Date.UTC(2026, 0, 2) };
const bytes = (text: string) => new TextEncoder().encode(text);

async function withLog(
  test: (open: () => ContainerLog, path: string) => Promise<void>,
): Promise<void> {
  const directory = await Deno.makeTempDir();
  using database = new DatabaseSync(join(directory, "test.db"));
  const path = join(directory, "pod", "0.log");
  const logs: ContainerLog[] = [];
  try {
    await test(() => {
      const positions = new Table<LogPositionRecord>(database, "log_positions", logPositionCodec);
      const log = new ContainerLog("c", path, positions, clock);
      logs.push(log);
      return log;
    }, path);
  } finally {
    for (const log of logs) await log.close();
    await Deno.remove(directory, { recursive: true });
  }
}

const payloads = async (path: string) =>
  (await Deno.readTextFile(path)).trimEnd().split("\n").map((line) =>
    line.split(" ").slice(1).join(" ")
  );

Deno.test("ContainerLog goes on where it was when it is opened again", () =>
  withLog(async (open, path) => {
    const first = open();
    await first.append("stdout", bytes("one\ntw"), false);
    await first.append("stderr", bytes("oops\n"), false);
    const second = open();
    assertEquals([second.consumedBytes("stdout"), second.consumedBytes("stderr")], [4, 5]);
    await second.append("stdout", bytes("two\n"), false);
    assertEquals(await payloads(path), ["stdout F one", "stderr F oops", "stdout F two"]);
  }));

Deno.test("ContainerLog cuts off what a crash left unrecorded", () =>
  withLog(async (open, path) => {
    await open().append("stdout", bytes("one\n"), false);
    await Deno.writeTextFile(path, "2026-01-02T00:00:00.000Z stdout F tw", { append: true });
    const again = open();
    await again.append("stdout", bytes("two\n"), false);
    assertEquals(await payloads(path), ["stdout F one", "stdout F two"]);
  }));

Deno.test("ContainerLog lets others find the log, and the group read it, when the umask is the launcher's", () =>
  withLog(async (open, path) => {
    const before = Deno.umask(0o077);
    try {
      const log = open();
      await log.append("stdout", bytes("one\n"), false);
      assertEquals((await Deno.stat(path)).mode, 0o100640);
      assertEquals((await Deno.stat(dirname(path))).mode, 0o040755);
      await Deno.rename(path, `${path}.1`);
      await log.reopen();
      assertEquals((await Deno.stat(path)).mode, 0o100640);
    } finally {
      Deno.umask(before);
    }
  }));

Deno.test("ContainerLog.reopen() continues in a new file when the old one was renamed", () =>
  withLog(async (open, path) => {
    const log = open();
    await log.append("stdout", bytes("one\n"), false);
    await Deno.rename(path, `${path}.1`);
    await log.append("stdout", bytes("two\n"), false);
    await log.reopen();
    await log.append("stdout", bytes("three\n"), false);
    assertEquals(await payloads(`${path}.1`), ["stdout F one", "stdout F two"]);
    assertEquals(await payloads(path), ["stdout F three"]);
    assertEquals(log.consumedBytes("stdout"), 14);
  }));

Deno.test("ContainerLog cuts off what a crash left unrecorded in a log that was renamed before it", () =>
  withLog(async (open, path) => {
    await open().append("stdout", bytes("one\n"), false);
    await Deno.rename(path, `${path}.1`);
    await Deno.writeTextFile(`${path}.1`, "2026-01-02T00:00:00.000Z stdout F two\n", {
      append: true,
    });
    await open().append("stdout", bytes("two\n"), false);
    assertEquals(await payloads(`${path}.1`), ["stdout F one"]);
    assertEquals(await payloads(path), ["stdout F two"]);
  }));

Deno.test("ContainerLog takes no output when its file is full, and goes on when it is reopened", () =>
  withLog(async (_open, path) => {
    using database = new DatabaseSync(":memory:");
    const positions = new Table<LogPositionRecord>(database, "log_positions", logPositionCodec);
    const log = new ContainerLog("c", path, positions, clock, 60);
    const append = (text: string) => log.append("stdout", bytes(text), false);
    assertEquals([await append("one\n"), log.isFull], [4, false]);
    assertEquals([await append("two\n"), log.isFull], [4, true]);
    assertEquals(await append("three\n"), 0);
    await log.note("said all the same");
    await Deno.rename(path, `${path}.1`);
    await log.reopen();
    assertEquals([log.isFull, await append("three\n")], [false, 6]);
    await log.close();
    assertEquals((await payloads(`${path}.1`)).slice(1), [
      "stdout F two",
      "stderr F multicri: said all the same",
    ]);
    assertEquals(await payloads(path), ["stdout F three"]);
  }));

Deno.test("ContainerLog keeps a file that somebody else put at its path", () =>
  withLog(async (open, path) => {
    const log = open();
    await log.append("stdout", bytes("one\n"), false);
    await log.close();
    await Deno.rename(path, `${path}.1`);
    await Deno.writeTextFile(path, "2026-01-02T00:00:00.000Z stdout F foreign\n");
    await open().append("stdout", bytes("two\n"), false);
    assertEquals(await payloads(path), ["stdout F foreign", "stdout F two"]);
  }));

/** Lets every file take so many bytes more, as a full disk does. */
async function withRoom<T>(roomBytes: number, use: () => Promise<T>): Promise<T> {
  const write = Deno.FsFile.prototype.write;
  let left = roomBytes;
  Deno.FsFile.prototype.write = function (text) {
    if (left === 0) return Promise.reject(new Error("No space left on device (os error 28)"));
    const piece = text.subarray(0, left);
    left -= piece.length;
    return write.call(this, piece);
  };
  try {
    return await use();
  } finally {
    Deno.FsFile.prototype.write = write;
  }
}

/** What a line `two` takes in a log. */
const LINE_BYTES = `${new Date(clock.now()).toISOString()} stdout F two\n`.length;

const ROOMS: [what: string, roomBytes: number, taken: number | undefined][] = [
  ["no byte", 0, undefined],
  ["a part of a line", LINE_BYTES - 1, undefined],
  ["a line", LINE_BYTES, 4],
  ["a line and a part of one", 2 * LINE_BYTES - 1, 4],
];

for (const [what, roomBytes, taken] of ROOMS) {
  Deno.test(`ContainerLog writes whole lines when a disk takes ${what}, and the rest later`, () =>
    withLog(async (open, path) => {
      const log = open();
      await log.append("stdout", bytes("one\n"), false);
      const append = () => log.append("stdout", bytes("two\nsix\n"), false);
      const outcome = await withRoom(roomBytes, () => append().catch(() => undefined));
      assertEquals(outcome, taken);
      assertEquals(await payloads(path), [
        "stdout F one",
        ...taken === undefined ? [] : ["stdout F two"],
      ]);
      await log.append("stdout", bytes(taken === undefined ? "two\nsix\n" : "six\n"), false);
      assertEquals(await payloads(path), ["stdout F one", "stdout F two", "stdout F six"]);
      assertEquals(log.consumedBytes("stdout"), 12);
    }));
}

Deno.test("ContainerLog goes on in a new file when its file was renamed while the disk was full", () =>
  withLog(async (open, path) => {
    const log = open();
    await log.append("stdout", bytes("one\n"), false);
    await withRoom(5, () => assertRejects(() => log.append("stdout", bytes("two\n"), false)));
    await Deno.rename(path, `${path}.1`);
    await log.reopen();
    await log.append("stdout", bytes("two\n"), false);
    assertEquals([await payloads(`${path}.1`), await payloads(path)], [
      ["stdout F one"],
      ["stdout F two"],
    ]);
  }));

Deno.test("ContainerLog goes on in a new file when its folder was removed", () =>
  withLog(async (open, path) => {
    const log = open();
    await log.append("stdout", bytes("one\n"), false);
    await Deno.remove(dirname(path), { recursive: true });
    await log.append("stdout", bytes("two\n"), false);
    assertEquals(await payloads(path), ["stdout F two"]);
  }));

Deno.test("ContainerLog goes on when its folder cannot be written for a while", () =>
  withLog(async (open, path) => {
    await Deno.writeTextFile(dirname(path), "");
    const log = open();
    const append = () => log.append("stdout", bytes("one\n"), false);
    await assertRejects(append);
    await Deno.remove(dirname(path));
    assertEquals(await append(), 4);
    assertEquals(await payloads(path), ["stdout F one"]);
  }));

Deno.test("ContainerLog.prepare() refuses with a sentence when the log cannot be written", () =>
  withLog(async (open, path) => {
    await Deno.mkdir(path, { recursive: true });
    await assertRejects(
      () => open().prepare(),
      CriError,
      `Cannot write the container's log ${path}: `,
    );
  }));

Deno.test("ContainerLog.note() writes one stderr line of ours when the message has newlines", () =>
  withLog(async (open, path) => {
    await open().note("job 7 waits:\n  Priority");
    assertEquals(await payloads(path), ["stderr F multicri: job 7 waits:; Priority"]);
  }));

Deno.test("ContainerLog counts output when the client wants no log", async () => {
  using database = new DatabaseSync(":memory:");
  const positions = new Table<LogPositionRecord>(database, "log_positions", logPositionCodec);
  const log = new ContainerLog("c", "", positions, clock);
  await log.append("stdout", bytes("one\n"), false);
  assertEquals(log.consumedBytes("stdout"), 4);
});

Deno.test("ContainerLog goes on when its records have no room, and repeats what they lack after a crash", () =>
  withLog(async (open, path) => {
    const first = open();
    await first.append("stdout", bytes("one\n"), false);
    const known = (log: ContainerLog) => [log.consumedBytes("stdout"), log.safeBytes("stdout")];
    const second = await withDiskFault("full", async () => {
      await first.append("stdout", bytes("two\n"), false);
      await first.append("stdout", bytes("six\n"), false);
      assertEquals([known(first), first.isSafe], [[12, 4], false]);
      const second = open();
      assertEquals(known(second), [4, 4]);
      await second.append("stdout", bytes("two\n"), false);
      assertEquals(await payloads(path), ["stdout F one", "stdout F two"]);
      return second;
    });
    assertEquals([known(second), second.isSafe], [[8, 8], true]);
    await second.append("stdout", bytes("six\n"), false);
    assertEquals(open().consumedBytes("stdout"), 12);
    assertEquals(await payloads(path), ["stdout F one", "stdout F two", "stdout F six"]);
  }));

Deno.test("ContainerLog.reopen() changes nothing when the records have no room for the new file", () =>
  withLog(async (open, path) => {
    const log = open();
    await log.append("stdout", bytes("one\n"), false);
    await withDiskFault("full", async () => {
      await log.append("stdout", bytes("two\n"), false);
      await Deno.rename(path, `${path}.1`);
      await assertRejects(() => log.reopen(), CriError, "disk is full");
      // As a kubelet does then.
      await Deno.rename(`${path}.1`, path);
      await log.append("stdout", bytes("six\n"), false);
    });
    assertEquals(await payloads(path), ["stdout F one", "stdout F two", "stdout F six"]);
  }));

Deno.test("ContainerLog takes output again that could not be recorded", () =>
  withLog(async (open, path) => {
    const log = open();
    await log.append("stdout", bytes("one\n"), false);
    const append = () => log.append("stdout", bytes("two\n"), false);
    await withDiskFault("broken", () => assertRejects(append, Error, "the disk is broken"));
    assertEquals([log.consumedBytes("stdout"), await append()], [4, 4]);
    assertEquals(await payloads(path), ["stdout F one", "stdout F two"]);
  }));
