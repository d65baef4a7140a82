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

const RAW: [raw: string, told: string][] = [
  [
    'Requires read access to "/etc/x.log", run again with the --allow-read flag',
    'the server\'s flags give it no read access to "/etc/x.log"',
  ],
  [
    "No such file or directory (os error 2): readfile '/run/x/config.json'",
    "No such file or directory: '/run/x/config.json'",
  ],
  ["No space left on device (os error 28)", "No space left on device"],
  ["a\n  b", "a; b"],
];

for (const [raw, told] of RAW) {
  Deno.test(`messageOf() says ${JSON.stringify(raw)} in other words`, () => {
    assertEquals(messageOf(new Error(raw)), told);
  });
}
