import { assertEquals } from "@std/assert";
import { formatLines, MAX_LINE_BYTES } from "./cri_lines.ts";

const TIME = "2026-01-02T03:04:05.678Z";
const bytes = (text: string) => new TextEncoder().encode(text);
const format = (input: Uint8Array, final: boolean) => {
  const { text, takenBytes } = formatLines(input, "stdout", TIME, final);
  return { text: new TextDecoder().decode(text), takenBytes };
};
const full = (text: string) => `${TIME} stdout F ${text}\n`;
const partial = (text: string) => `${TIME} stdout P ${text}\n`;
const long = "x".repeat(MAX_LINE_BYTES);

const cases: { name: string; input: string; final?: boolean; text: string; taken: number }[] = [
  { name: "there is nothing", input: "", text: "", taken: 0 },
  { name: "a line is whole", input: "a\n", text: full("a"), taken: 2 },
  { name: "a line is empty", input: "\n\n", text: full("") + full(""), taken: 2 },
  { name: "the last line is unfinished", input: "a\nbc", text: full("a"), taken: 2 },
  {
    name: "the unfinished line is the end",
    input: "a\nbc",
    final: true,
    text: full("a") + full("bc"),
    taken: 4,
  },
  {
    name: "a line has exactly the longest length",
    input: `${long}\n`,
    text: full(long),
    taken: MAX_LINE_BYTES + 1,
  },
  {
    name: "a line is one byte too long",
    input: `${long}y\n`,
    text: partial(long) + full("y"),
    taken: MAX_LINE_BYTES + 2,
  },
  {
    name: "an unfinished line is too long",
    input: `${long}y`,
    text: partial(long),
    taken: MAX_LINE_BYTES,
  },
  { name: "an unfinished line may still end within the length", input: long, text: "", taken: 0 },
  {
    name: "lines end as a terminal's",
    input: "a\rb\r\n\r\n",
    text: full("a\rb") + full(""),
    taken: 7,
  },
  {
    name: "a carriage return ends no line",
    input: "a\r",
    final: true,
    text: full("a\r"),
    taken: 2,
  },
];

for (const { name, input, final = false, text, taken } of cases) {
  Deno.test(`formatLines() does the format's bidding when ${name}`, () => {
    assertEquals(format(bytes(input), final), { text, takenBytes: taken });
  });
}

Deno.test("formatLines() keeps bytes that are no UTF-8", () => {
  const { text } = formatLines(new Uint8Array([0xff, 0x00, 0x0a]), "stderr", TIME, false);
  assertEquals(text.subarray(-4), new Uint8Array([0x20, 0xff, 0x00, 0x0a]));
});

Deno.test("formatLines() loses and doubles nothing when output arrives in random pieces", () => {
  const seed = crypto.getRandomValues(new Uint32Array(1))[0] ?? 1;
  const message = `seed ${seed}`;
  let state = seed;
  const random = (below: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state % below;
  };
  const output = bytes(
    Array.from({ length: 40 }, () => "z".repeat(random(2) === 0 ? random(80) : random(40_000)))
      .join("\n"),
  );
  let consumed = 0;
  let written = "";
  for (let available = 0; consumed < output.length;) {
    available = Math.min(output.length, available + 1 + random(50_000));
    const final = available === output.length;
    const { text, takenBytes } = formatLines(
      output.subarray(consumed, available),
      "stdout",
      TIME,
      final,
    );
    written += new TextDecoder().decode(text);
    consumed += takenBytes;
  }
  const restored = written.split("\n").filter((line) => line !== "").map((line) => {
    const [, , tag] = line.split(" ", 3);
    return line.slice(TIME.length + " stdout F ".length) + (tag === "F" ? "\n" : "");
  }).join("");
  assertEquals(restored, new TextDecoder().decode(output) + "\n", message);
});
