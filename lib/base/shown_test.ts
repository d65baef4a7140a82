import { assertEquals } from "@std/assert";
import { shown } from "./shown.ts";

const CASES: [what: string, text: string, shown: string][] = [
  ["nothing", "", '""'],
  ["a word", "a b", '"a b"'],
  ["line breaks and quotes", 'a\n"b"\0', '"a\\n\\"b\\"\\u0000"'],
  ["a long text", "x".repeat(121), `"${"x".repeat(120)}"…`],
  ["a long text of pairs", "😀".repeat(1_000), `"${"😀".repeat(120)}"…`],
  ["pairs", "😀".repeat(100), `"${"😀".repeat(100)}"`],
  ["half a pair", "\ud83d", '"\\ud83d"'],
];

for (const [what, text, expected] of CASES) {
  Deno.test(`shown() shows ${what}`, () => assertEquals(shown(text), expected));
}
