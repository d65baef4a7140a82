import { assertEquals } from "@std/assert";
import { ExecTurns } from "./exec_turns.ts";

Deno.test("ExecTurns.run() keeps places for limited commands when many unlimited ones run", async () => {
  const turns = new ExecTurns();
  const end = Promise.withResolvers<void>();
  const begun = { unlimited: 0, limited: 0 };
  const begin = (kind: keyof typeof begun) =>
    Array.from({ length: 10 }, () =>
      turns.run(kind === "limited", () => {
        begun[kind]++;
        return end.promise;
      }, new AbortController().signal));
  const settled = async () => {
    for (let turn = 0; turn < 10; turn++) await Promise.resolve();
    return { ...begun };
  };
  const unlimited = begin("unlimited");
  assertEquals(await settled(), { unlimited: 4, limited: 0 });
  const limited = begin("limited");
  assertEquals(await settled(), { unlimited: 4, limited: 4 });
  end.resolve();
  await Promise.all([...unlimited, ...limited]);
  assertEquals(begun, { unlimited: 10, limited: 10 });
});
