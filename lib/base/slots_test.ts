import { assertEquals, assertRejects } from "@std/assert";
import { Slots } from "./slots.ts";

const never = new AbortController().signal;

/** Work that runs until it is told to end; `started` has the names in order. */
function workOf(started: string[]): (name: string) => { work: () => Promise<string>; end(): void } {
  return (name) => {
    const ended = Promise.withResolvers<string>();
    return {
      work: () => {
        started.push(name);
        return ended.promise;
      },
      end: () => ended.resolve(name),
    };
  };
}

Deno.test("Slots.run() begins in the order of the calls when places are free", async () => {
  const slots = new Slots(2);
  const started: string[] = [];
  const jobs = ["a", "b", "c", "d"].map(workOf(started));
  const running = jobs.map(({ work }) => slots.run(work, never));
  await Promise.resolve();
  assertEquals(started, ["a", "b"]);
  jobs[1]?.end();
  await running[1];
  await Promise.resolve();
  assertEquals(started, ["a", "b", "c"]);
  for (const job of jobs) job.end();
  assertEquals(await Promise.all(running), ["a", "b", "c", "d"]);
  assertEquals(started, ["a", "b", "c", "d"]);
});

Deno.test("Slots.run() gives the place back when the work fails", async () => {
  const slots = new Slots(1);
  await assertRejects(() => slots.run(() => Promise.reject(new Error("x")), never), Error, "x");
  assertEquals(await slots.run(() => Promise.resolve(1), never), 1);
});

Deno.test("Slots.run() never begins what was aborted while it waited", async () => {
  const slots = new Slots(1);
  const started: string[] = [];
  const [a, b, c] = ["a", "b", "c"].map(workOf(started));
  const abort = new AbortController();
  const first = slots.run(a?.work ?? fail, never);
  const second = assertRejects(() => slots.run(b?.work ?? fail, abort.signal), Error, "over");
  const third = slots.run(c?.work ?? fail, never);
  abort.abort(new Error("over"));
  await second;
  await assertRejects(() => slots.run(b?.work ?? fail, abort.signal), Error, "over");
  a?.end();
  c?.end();
  assertEquals([await first, await third], ["a", "c"]);
  assertEquals(started, ["a", "c"]);
});

function fail(): never {
  throw new Error("there is no such work");
}
