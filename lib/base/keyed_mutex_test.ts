import { assertEquals, assertRejects } from "@std/assert";
import { KeyedMutex } from "./keyed_mutex.ts";

Deno.test("KeyedMutex.runExclusive() runs calls with one key in order and one at a time", async () => {
  const mutex = new KeyedMutex();
  const events: string[] = [];
  await Promise.all(["a", "b", "c"].map((name) =>
    mutex.runExclusive("key", async () => {
      events.push(`${name} begins`);
      await Promise.resolve();
      events.push(`${name} ends`);
    })
  ));
  assertEquals(events, ["a begins", "a ends", "b begins", "b ends", "c begins", "c ends"]);
});

Deno.test("KeyedMutex.runExclusive() does not wait for another key", async () => {
  const mutex = new KeyedMutex();
  const held = Promise.withResolvers<void>();
  const holder = mutex.runExclusive("one", () => held.promise);
  assertEquals(await mutex.runExclusive("two", () => Promise.resolve("free")), "free");
  held.resolve();
  await holder;
});

Deno.test("KeyedMutex.runExclusive() passes an error on and goes on with the next call", async () => {
  const mutex = new KeyedMutex();
  const failing = mutex.runExclusive("key", () => Promise.reject(new Error("failed")));
  const next = mutex.runExclusive("key", () => Promise.resolve(2));
  await assertRejects(() => failing, Error, "failed");
  assertEquals(await next, 2);
  assertEquals(await mutex.runExclusive("key", () => Promise.resolve(3)), 3);
});
