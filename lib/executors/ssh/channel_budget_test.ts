import { assertEquals, assertRejects } from "@std/assert";
import { CriError } from "../../base/error.ts";
import { ChannelBudget } from "./channel_budget.ts";

const NEVER = new AbortController().signal;

/** Whether a promise is settled once all that can happen now has happened. */
async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  promise.then(() => settled = true, () => settled = true);
  await new Promise((resolve) => setTimeout(resolve, 0));
  return settled;
}

Deno.test("ChannelBudget.acquire() serves in order when more come than there are places", async () => {
  const budget = new ChannelBudget("cluster", 2);
  const order: number[] = [];
  const calls = [0, 1, 2, 3, 4].map((call) => budget.acquire(NEVER).then(() => order.push(call)));
  await isSettled(Promise.all(calls));
  assertEquals(order, [0, 1]);
  for (let released = 0; released < 3; released++) budget.release();
  await Promise.all(calls);
  assertEquals(order, [0, 1, 2, 3, 4]);
  assertEquals(budget.inUse, 2);
});

Deno.test("ChannelBudget.acquire() throws RESOURCE_EXHAUSTED when too many wait", async () => {
  const budget = new ChannelBudget("cluster", 1, 1);
  await budget.acquire(NEVER);
  const waiting = budget.acquire(NEVER);
  const error = await assertRejects(() => budget.acquire(NEVER), CriError);
  assertEquals(error.code, "RESOURCE_EXHAUSTED");
  budget.release();
  await waiting;
});

Deno.test("ChannelBudget.acquire() gives its turn to the next when the caller cancels", async () => {
  const budget = new ChannelBudget("cluster", 1);
  await budget.acquire(NEVER);
  const controller = new AbortController();
  const cancelled = budget.acquire(controller.signal);
  const next = budget.acquire(NEVER);
  controller.abort("enough");
  assertEquals(await cancelled.catch((reason) => reason), "enough");
  budget.release();
  await next;
  assertEquals(budget.inUse, 1);
});

Deno.test("ChannelBudget.refused() lowers the bound to what the server bears, never to none", async () => {
  const budget = new ChannelBudget("cluster", 8);
  for (let call = 0; call < 4; call++) await budget.acquire(NEVER);
  budget.refused();
  assertEquals(budget.limit, 3);
  const fourth = budget.acquire(NEVER);
  budget.release();
  assertEquals(await isSettled(fourth), false);
  budget.release();
  await fourth;
  for (let refusal = 0; refusal < 10; refusal++) budget.refused();
  assertEquals(budget.limit, 1);
});

Deno.test("ChannelBudget raises the bound again when nothing was refused for long", async () => {
  const budget = new ChannelBudget("cluster", 4);
  await budget.acquire(NEVER);
  for (let refusal = 0; refusal < 10; refusal++) budget.refused();
  budget.release();
  for (let call = 0; call < 1_000; call++) {
    await budget.acquire(NEVER);
    budget.release();
  }
  assertEquals(budget.limit, 4);
});

Deno.test("ChannelBudget.close() fails all who wait and all who come", async () => {
  const budget = new ChannelBudget("cluster", 1);
  await budget.acquire(NEVER);
  const waiting = budget.acquire(NEVER);
  const lost = new CriError("UNAVAILABLE", "lost");
  budget.close(lost);
  assertEquals(await waiting.catch((error) => error), lost);
  assertEquals(await budget.acquire(NEVER).catch((error) => error), lost);
});
