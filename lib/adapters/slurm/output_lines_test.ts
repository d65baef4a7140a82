import { assertEquals } from "@std/assert";
import { OutputLines } from "./output_lines.ts";

const CASES: readonly [pieces: readonly string[], lines: readonly string[]][] = [
  [["INFO: a\nIN", "FO: b\nlast"], ["INFO: a", "INFO: b", "last"]],
  [["\n\n \r\n"], []],
  [["10%\r50%\r100%\n"], ["100%"]],
  [["\x1b[31mFATAL\x1b[0m:\tno\x07\n"], ["FATAL: no"]],
  [[`${"x".repeat(3000)}\n`], ["x".repeat(1000)]],
];
for (const [pieces, lines] of CASES) {
  Deno.test(`OutputLines writes ${lines.length} lines when it gets ${JSON.stringify(pieces).slice(0, 60)}`, async () => {
    const written: string[] = [];
    const output = new OutputLines((line) => Promise.resolve(void written.push(line)));
    for (const piece of pieces) await output.add(new TextEncoder().encode(piece));
    await output.end();
    assertEquals([written, output.last], [[...lines], lines.at(-1) ?? ""]);
  });
}

Deno.test("OutputLines stops writing after 1000 lines and knows the last nevertheless", async () => {
  let written = 0;
  const output = new OutputLines(() => Promise.resolve(void written++));
  const text = Array.from({ length: 5000 }, (_, index) => `line ${index}\n`).join("");
  await output.add(new TextEncoder().encode(text));
  assertEquals([written, output.last], [1000, "line 4999"]);
});
