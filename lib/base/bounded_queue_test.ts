import { assertEquals, assertRejects } from "@std/assert";
import { BoundedQueue } from "./bounded_queue.ts";

const tooSlow = () => new Error("too slow");

Deno.test("BoundedQueue gives items in their order, those that come while its reader waits too", async () => {
  const queue = new BoundedQueue<number>(2, tooSlow);
  queue.push(1);
  const seen: number[] = [];
  for await (const item of queue) {
    seen.push(item);
    if (item === 3) break;
    queueMicrotask(() => queue.push(item + 1));
  }
  assertEquals(seen, [1, 2, 3]);
});

Deno.test("BoundedQueue gives what waits and then the error when its reader is too slow", async () => {
  const queue = new BoundedQueue<number>(2, tooSlow);
  for (const item of [1, 2, 3, 4]) queue.push(item);
  queue.fail(new Error("later"));
  const seen: number[] = [];
  const reading = async () => {
    for await (const item of queue) seen.push(item);
  };
  await assertRejects(reading, Error, "too slow");
  assertEquals(seen, [1, 2]);
});

Deno.test("BoundedQueue.end() ends the queue behind what waits", async () => {
  const queue = new BoundedQueue<number>(2, tooSlow);
  queue.push(1);
  queue.end();
  queue.push(2);
  const seen: number[] = [];
  for await (const item of queue) seen.push(item);
  assertEquals(seen, [1]);
});

Deno.test("BoundedQueue.fail() wakes its reader", async () => {
  const queue = new BoundedQueue<number>(2, tooSlow);
  const next = queue[Symbol.asyncIterator]().next();
  queue.fail(new Error("over"));
  await assertRejects(() => next, Error, "over");
});
