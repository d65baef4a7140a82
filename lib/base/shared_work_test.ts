import { assertEquals, assertRejects } from "@std/assert";
import { SharedWork } from "./shared_work.ts";
import { TestClock } from "./test_clock.ts";

Deno.test("SharedWork.run() does it once for all who ask, and again when it is old or failed", async () => {
  const clock = new TestClock();
  const shared = new SharedWork(clock, 500);
  let done = 0;
  const work = () => Promise.resolve().then(() => void done++);
  await Promise.all([shared.run(work), shared.run(work)]);
  clock.advance(499);
  await shared.run(work);
  assertEquals(done, 1);
  clock.advance(1);
  await shared.run(work);
  assertEquals(done, 2);
  clock.advance(500);
  await assertRejects(() => shared.run(() => Promise.reject(new Error("no"))), Error, "no");
  await shared.run(work);
  assertEquals(done, 3);
});
