import { assertEquals } from "@std/assert";
import { TestClock } from "../base/test_clock.ts";
import type { Chain } from "./chain.ts";
import { Readiness } from "./readiness.ts";

Deno.test("Readiness.ask() lets no second look begin while one is under way", async () => {
  const clock = new TestClock();
  const looks: PromiseWithResolvers<void>[] = [];
  const chain = {
    network: {},
    verify: () => Promise.resolve(),
    status: async () => {
      const look = Promise.withResolvers<void>();
      looks.push(look);
      await look.promise;
    },
  } as unknown as Chain;
  const readiness = new Readiness(() => Promise.resolve(chain), "/lock", clock);
  const begun = async (count: number) => {
    while (looks.length < count) await new Promise((resolve) => setTimeout(resolve));
  };
  const asked = [readiness.ask()];
  await begun(1);
  clock.advance(5_000);
  asked.push(readiness.ask(), readiness.ask());
  await begun(1);
  looks[0]?.reject(new Error("it hung"));
  const none = { ready: false, message: "it hung" };
  assertEquals(await Promise.all(asked), [none, none, none]);
  assertEquals(looks.length, 1);
  const next = readiness.ask();
  await begun(2);
  looks[1]?.resolve();
  assertEquals(await next, { ready: true, message: "" });
});
