import { assertEquals } from "@std/assert";
import { isNewEnough } from "./go.ts";

Deno.test("isNewEnough() compares the numbers of `go version`, not their text", () => {
  const cases: [string, boolean][] = [
    ["go version go1.26.2 linux/amd64", true],
    ["go version go1.26.10 linux/amd64", true],
    ["go version go1.27 linux/amd64", true],
    ["go version go2.0.0 linux/amd64", true],
    ["go version go1.26.1 linux/amd64", false],
    ["go version go1.26 linux/amd64", false],
    ["go version go1.19.8 linux/amd64", false],
    ["go version go1.3.9 linux/amd64", false],
    ["", false],
    ["something else", false],
  ];
  for (const [version, expected] of cases) {
    assertEquals(isNewEnough(version, [1, 26, 2]), expected, version);
  }
});
