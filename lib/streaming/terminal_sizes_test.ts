import { assertEquals } from "@std/assert";
import { TerminalSizes } from "./terminal_sizes.ts";

const add = (sizes: TerminalSizes, text: string) => sizes.add(new TextEncoder().encode(text));

const CASES: [text: string, size: { width: number; height: number } | undefined][] = [
  ['{"Width":80,"Height":24}\n', { width: 80, height: 24 }],
  ['{"Width":1,"Height":1}{"Width":2,"Height":3}', { width: 2, height: 3 }],
  ['nonsense}{"Width":2,"Height":3}', { width: 2, height: 3 }],
  ['{"Width":0,"Height":24}', undefined],
  ['{"Width":65536,"Height":24}', undefined],
  ['{"Width":"80","Height":24}', undefined],
  ["{}", undefined],
  ["null}", undefined],
];
for (const [text, size] of CASES) {
  Deno.test(`TerminalSizes gives ${JSON.stringify(size)} when ${JSON.stringify(text)} comes`, async () => {
    for (const pieceLength of [1, 5, text.length]) {
      const sizes = new TerminalSizes();
      for (let at = 0; at < text.length; at += pieceLength) {
        add(sizes, text.slice(at, at + pieceLength));
      }
      sizes.end();
      assertEquals(await Array.fromAsync(sizes), size === undefined ? [] : [size]);
    }
  });
}

Deno.test("TerminalSizes reads on when a client sent something endless", async () => {
  const sizes = new TerminalSizes();
  for (let turn = 0; turn < 100; turn++) add(sizes, "x".repeat(10_000));
  add(sizes, '}{"Width":2,"Height":3}');
  assertEquals((await sizes.next()).value, { width: 2, height: 3 });
});
