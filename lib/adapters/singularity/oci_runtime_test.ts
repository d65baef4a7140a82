import { assertEquals } from "@std/assert";
import { lastWords } from "./oci_runtime.ts";

const WORDS: [said: string, told: string][] = [
  ["", "it did not say why"],
  [
    "sh: 5: printf: I/O error\nthe kernel refuses it.\n",
    "printf: I/O error; the kernel refuses it",
  ],
  [
    "no pipe can be made: Too many open files at -e line 12.\n",
    "no pipe can be made: Too many open files",
  ],
];

for (const [said, told] of WORDS) {
  Deno.test(`lastWords() tells ${JSON.stringify(said)} as ${JSON.stringify(told)}`, () => {
    const stderr = new TextEncoder().encode(said);
    assertEquals(lastWords({ code: 1, stdout: new Uint8Array(), stderr }), told);
  });
}
