import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { type CriCode, CriError } from "../base/error.ts";
import { runWithFile } from "./file_input.ts";

const ENV = { PATH: "/usr/bin:/bin", GIVEN: "it's" };
const NEVER = new AbortController().signal;

async function withFile(use: (path: string) => Promise<void>): Promise<void> {
  const path = await Deno.makeTempFile({ prefix: "input-" });
  try {
    await Deno.writeFile(path, new Uint8Array(3_000_000).fill(7));
    await use(path);
  } finally {
    await Deno.remove(path);
  }
}

const ENDS: readonly [script: string, code: number, stdout: string, stderr: string][] = [
  ["wc -c", 0, "3000000\n", ""],
  ["head -c 1 | od -An -tu1; echo why >&2; exit 7", 7, "   7\n", "why\n"],
  ["kill -9 $$", 128, "", ""],
  ['echo "$GIVEN ${HOME-unset}"', 0, "it's unset\n", ""],
];
for (const [script, code, stdout, stderr] of ENDS) {
  Deno.test(`runWithFile() gives code ${code} and the output when the program is ${script}`, () =>
    withFile(async (path) => {
      const result = await runWithFile(["/bin/sh", "-c", script], path, ENV, NEVER);
      const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
      assertEquals([result.code, text(result.stdout), text(result.stderr)], [code, stdout, stderr]);
    }));
}

const FAILURES: readonly [
  what: string,
  argv: readonly [string, ...string[]],
  code: CriCode,
  message: RegExp,
][] = [
  ["the program does not exist", ["no-such-program"], "NOT_FOUND", /^Cannot run no-such-program/],
  ["the output is endless", ["yes"], "RESOURCE_EXHAUSTED", /^Cannot keep the stdout of yes/],
];
for (const [what, argv, code, message] of FAILURES) {
  Deno.test(`runWithFile() throws ${code} when ${what}`, () =>
    withFile(async (path) => {
      const error = await assertRejects(() => runWithFile(argv, path, ENV, NEVER), CriError);
      assertEquals(error.code, code);
      assertMatch(error.message, message);
    }));
}

Deno.test("runWithFile() throws NOT_FOUND when the file does not exist", async () => {
  const run = () => runWithFile(["cat"], "/no/such/file", ENV, NEVER);
  assertEquals((await assertRejects(run, CriError, "Cannot send /no/such/file")).code, "NOT_FOUND");
});

for (const when of ["before", "meanwhile"]) {
  Deno.test(`runWithFile() throws CANCELLED when the caller cancels ${when}`, () =>
    withFile(async (path) => {
      const stop = new AbortController();
      const abort = () => stop.abort(new Error("client went"));
      const timer = when === "before" ? undefined : setTimeout(abort, 20);
      if (when === "before") abort();
      const run = () => runWithFile(["sleep", "60"], path, ENV, stop.signal);
      assertEquals((await assertRejects(run, CriError, "client went")).code, "CANCELLED");
      clearTimeout(timer);
    }));
}
