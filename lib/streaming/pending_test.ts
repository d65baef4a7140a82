import { assert, assertEquals, assertThrows } from "@std/assert";
import { TestClock } from "../base/test_clock.ts";
import { CriError } from "../base/error.ts";
import { MAX_PENDING, PendingServices, TOKEN_LIFETIME_MS } from "./pending.ts";

Deno.test("PendingServices keeps a service until it is taken", () => {
  const pending = new PendingServices<string>(new TestClock());
  const [one, two] = [pending.add("one"), pending.add("two")];
  assert(one !== two && /^[\w-]{32}$/.test(one));
  assertEquals([pending.look(one), pending.look(one)], ["one", "one"]);
  pending.take(one);
  assertEquals([pending.look(one), pending.look(two), pending.look("")], [
    undefined,
    "two",
    undefined,
  ]);
});

Deno.test("PendingServices forgets a service when its time is over", () => {
  const clock = new TestClock();
  const pending = new PendingServices<string>(clock);
  const token = pending.add("one");
  clock.advance(TOKEN_LIFETIME_MS - 1);
  assertEquals(pending.look(token), "one");
  clock.advance(1);
  assertEquals(pending.look(token), undefined);
});

Deno.test("PendingServices.add() fails with RESOURCE_EXHAUSTED when too many wait, until they expire", () => {
  const clock = new TestClock();
  const pending = new PendingServices<number>(clock);
  for (let index = 0; index < MAX_PENDING; index++) pending.add(index);
  const error = assertThrows(() => pending.add(0), CriError);
  assertEquals(error.code, "RESOURCE_EXHAUSTED");
  clock.advance(TOKEN_LIFETIME_MS);
  pending.add(0);
});
