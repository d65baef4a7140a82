import { assertEquals, assertRejects } from "@std/assert";
import { ByteQueue } from "./byte_queue.ts";

const bytes = (length: number, value = 0) => new Uint8Array(length).fill(value);
/** Whether a promise has settled once everything that can run has run. */
async function settled(promise: Promise<unknown>): Promise<boolean> {
  let is = false;
  promise.then(() => is = true, () => is = true);
  await new Promise((resolve) => setTimeout(resolve));
  return is;
}

Deno.test("ByteQueue.push() waits when the queue is full until it is read from", async () => {
  const queue = new ByteQueue(10);
  await queue.push(bytes(9));
  const full = queue.push(bytes(5));
  assertEquals(await settled(full), false);
  await queue.next();
  await full;
});

Deno.test("ByteQueue gives what came before the end, and then its end", async () => {
  const queue = new ByteQueue(10);
  await queue.push(bytes(3, 1));
  queue.end();
  await queue.push(bytes(3, 2));
  assertEquals(await Array.fromAsync(queue), [bytes(3, 1)]);
});

Deno.test("ByteQueue.next() rejects, and drops what is there, when the queue failed", async () => {
  const queue = new ByteQueue(10);
  await queue.push(bytes(3));
  queue.fail(new Error("gone"));
  await assertRejects(() => queue.next(), Error, "gone");
});

for (const how of ["end", "fail", "return"] as const) {
  Deno.test(`ByteQueue.${how}() wakes whoever waits`, async () => {
    const [empty, full] = [new ByteQueue(1), new ByteQueue(1)];
    const read = empty.next().catch(() => "failed");
    const pushed = full.push(bytes(2));
    for (const queue of [empty, full]) queue[how](new Error("gone") as never);
    await read;
    await pushed;
  });
}
