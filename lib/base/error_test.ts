import { assertEquals, assertStrictEquals } from "@std/assert";
import { CriError, messageOf } from "./error.ts";

const THROWN: readonly [what: string, thrown: unknown, code: string, message: string][] = [
  ["an Error", new Error("no"), "INTERNAL", "no"],
  ["an Error without a message", new TypeError(), "INTERNAL", "TypeError"],
  ["a string", "text", "INTERNAL", "text"],
  ["undefined", undefined, "INTERNAL", "undefined"],
  ["several lines", new Error(" a \n\n  b\n"), "INTERNAL", "a; b"],
  [
    "an abort",
    new DOMException("gone", "AbortError"),
    "CANCELLED",
    "The call was cancelled: gone",
  ],
  [
    "a timeout",
    new DOMException("late", "TimeoutError"),
    "DEADLINE_EXCEEDED",
    "The call took too long: late",
  ],
  ["another DOMException", new DOMException("odd", "DataError"), "INTERNAL", "odd"],
];

for (const [what, thrown, code, message] of THROWN) {
  Deno.test(`CriError.from() becomes ${code} when ${what} was thrown`, () => {
    const error = CriError.from(thrown);
    assertEquals([error.code, error.message], [code, message.trim()]);
    assertStrictEquals(error.cause, thrown);
  });
}

Deno.test("CriError.from() returns the same object when it is one", () => {
  const error = new CriError("NOT_FOUND", "none");
  assertStrictEquals(CriError.from(error), error);
});

Deno.test("messageOf() holds no stack trace", () => {
  assertEquals(messageOf(new Error("one", { cause: new Error("two") })), "one");
});
