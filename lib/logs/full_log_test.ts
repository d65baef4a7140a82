import { assertEquals } from "@std/assert";
import { TestClock } from "../base/test_clock.ts";
import { TestStore } from "../store/test_store.ts";
import { ContainerLog } from "./container_log.ts";
import { FullLog, ROTATION_WAIT_MS } from "./full_log.ts";

const FULL = "the log is full (--max-log-bytes): the output goes on when the log is rotated";

/** A log that one line fills, and what is told and waited for when so many bytes of each stream are not in it. */
async function withFullLog(
  use: (test: {
    waits: (hasEnded: boolean, missing?: { stdout: number; stderr: number }) => Promise<boolean>;
    fill: () => Promise<unknown>;
    rotate: () => Promise<void>;
    clock: TestClock;
    notes: string[];
  }) => Promise<void>,
): Promise<void> {
  await using records = await TestStore.open();
  const clock = new TestClock();
  const notes: string[] = [];
  const path = records.path("c1.log");
  const log = new ContainerLog("c1", path, records.store.logPositions, clock, 10);
  const full = new FullLog(log, clock, (message) => Promise.resolve(void notes.push(message)));
  try {
    await use({
      waits: (hasEnded, missing = { stdout: 5, stderr: 7 }) =>
        full.waits(hasEnded, (stream) => Promise.resolve(missing[stream])),
      fill: () => log.append("stdout", new TextEncoder().encode("line\n"), false),
      rotate: async () => {
        await Deno.rename(path, `${path}.1`);
        await log.reopen();
      },
      clock,
      notes,
    });
  } finally {
    await log.close();
  }
}

Deno.test("FullLog.waits() says nothing of a log with room", () =>
  withFullLog(async ({ waits, notes }) => {
    assertEquals([await waits(false), await waits(true)], [false, false]);
    assertEquals(notes, []);
  }));

Deno.test("FullLog.waits() says once that a log is full, and waits when the program has ended", () =>
  withFullLog(async ({ waits, fill, notes }) => {
    await fill();
    assertEquals([await waits(false), await waits(false), await waits(true)], [false, false, true]);
    assertEquals(notes, [FULL]);
  }));

Deno.test("FullLog.waits() does not wait when nothing is missing", () =>
  withFullLog(async ({ waits, fill }) => {
    await fill();
    assertEquals(await waits(true, { stdout: 0, stderr: 0 }), false);
  }));

Deno.test("FullLog.waits() says what is left out when nobody rotates the log", () =>
  withFullLog(async ({ waits, fill, clock, notes }) => {
    await fill();
    await waits(true);
    clock.advance(ROTATION_WAIT_MS - 1);
    assertEquals(await waits(true), true);
    clock.advance(1);
    assertEquals([await waits(true), await waits(true)], [false, false]);
    assertEquals(notes.slice(1), [
      "the log is full and nobody rotates it: 5 bytes of stdout and 7 of stderr are left out",
    ]);
  }));

Deno.test("FullLog.waits() waits anew after each rotation", () =>
  withFullLog(async ({ waits, fill, rotate, clock, notes }) => {
    await fill();
    await waits(true);
    clock.advance(ROTATION_WAIT_MS - 1);
    await rotate();
    assertEquals(await waits(true), false);
    await fill();
    await waits(true);
    clock.advance(1);
    assertEquals([await waits(true), notes], [true, [FULL, FULL]]);
  }));
