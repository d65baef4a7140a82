import { assertEquals, assertThrows } from "@std/assert";
import { CriError } from "../../base/error.ts";
import { checkCommand, type Frame, FrameReader } from "./frames.ts";

const NONCE = "00112233445566778899aabbccddeeff";
function frame(letter: string, content: string): string {
  const length = String.fromCharCode(0, 0, content.length >> 8, content.length & 255);
  return `${letter}${length}${content}\n`;
}

const bytesOf = (latin1: string) => Uint8Array.from(latin1, (letter) => letter.charCodeAt(0));

function framesOf(latin1: string, pieceBytes: number): Frame[] {
  const frames: Frame[] = [];
  const reader = new FrameReader(NONCE, (frame) => frames.push(frame));
  const bytes = bytesOf(latin1);
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    reader.add(bytes.subarray(at, at + pieceBytes));
  }
  return frames;
}

const STREAM = [
  `TaskProlog says ${NONCE.slice(0, 8)}\n`,
  NONCE,
  frame("s", ""),
  frame("o", "\0\xff s\n"),
  frame("e", NONCE),
  frame("o", ""),
  frame("x", "137"),
].join("");
const FRAMES: Frame[] = [
  { kind: "started" },
  { kind: "stdout", bytes: bytesOf("\0\xff s\n") },
  { kind: "stderr", bytes: bytesOf(NONCE) },
  { kind: "stdout", bytes: bytesOf("") },
  { kind: "exited", code: 137 },
];

for (const pieceBytes of [1, 2, 7, 1000]) {
  Deno.test(`FrameReader.add() gives every frame when pieces have ${pieceBytes} bytes`, () => {
    assertEquals(framesOf(STREAM, pieceBytes), FRAMES);
  });
}

Deno.test("FrameReader.add() gives how a command ended, or why it did not begin", () => {
  const ends: [string, Frame][] = [
    [frame("t", ""), { kind: "timedOut" }],
    [frame("c", ""), { kind: "abandoned" }],
    [frame("f", "node no such: x"), { kind: "refused", why: "node", text: "no such: x" }],
  ];
  for (const [text, end] of ends) assertEquals(framesOf(NONCE + text, 3), [end]);
});

const GARBLED = {
  "a letter is unknown": NONCE + frame("?", ""),
  "an exit code is none": NONCE + frame("x", "1000"),
  "a reason is unknown": NONCE + frame("f", "moon x"),
  "a frame is too long": `${NONCE}o\x7f\0\0\0`,
  "the nonce never comes": "x".repeat(1024 * 1024 + 1),
};
for (const [when, text] of Object.entries(GARBLED)) {
  Deno.test(`FrameReader.add() throws when ${when}`, () => {
    const error = assertThrows(() => framesOf(text, 100_000), CriError);
    assertEquals(error.code, "INTERNAL");
  });
}

Deno.test("checkCommand() refuses words that the kernel could not pass", () => {
  checkCommand(["sh", "", "x".repeat(131_071), "ä".repeat(65_535)]);
  for (
    const [word, why] of [
      ["a\0b", "a word of it must not hold a null byte"],
      ["x".repeat(131_072), "a word of it must have fewer than 131072 bytes, and has 131072"],
      ["ä".repeat(65_536), "must have fewer than 131072 bytes"],
    ] as const
  ) {
    const error = assertThrows(() => checkCommand(["sh", word]), CriError, why);
    assertEquals(error.code, "INVALID_ARGUMENT");
  }
});
