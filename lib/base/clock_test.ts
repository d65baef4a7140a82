import { assertEquals, assertGreaterOrEqual, assertRejects } from "@std/assert";
import { systemClock } from "./clock.ts";

Deno.test("systemClock.now() is the machine's time", () => {
  const before = Date.now();
  assertGreaterOrEqual(systemClock.now(), before);
});

Deno.test("systemClock.sleep() resolves and leaves its signal alone", async () => {
  const abort = new AbortController();
  await systemClock.sleep(1, abort.signal);
  abort.abort(new Error("later"));
});

for (const when of ["before", "while"] as const) {
  Deno.test(`systemClock.sleep() rejects with the signal's reason when it aborts ${when} it sleeps`, async () => {
    const abort = new AbortController();
    const reason = new Error("enough");
    if (when === "before") abort.abort(reason);
    // Without the abort the timer would outlive the test, which the sanitizer sees.
    const sleep = systemClock.sleep(3_600_000, abort.signal);
    if (when === "while") abort.abort(reason);
    assertEquals(await assertRejects(() => sleep), reason);
  });
}
