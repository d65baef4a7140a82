import { assertEquals, assertRejects } from "@std/assert";
import { CriError } from "../../base/error.ts";
import type { Executor } from "../../executors/executor.ts";
import { lastWords, OciRuntime } from "./oci_runtime.ts";

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

/** crun that changes no limits, and knows a container in this state, or none. */
function crunThatFails(status: string | undefined): Executor {
  const bytes = (text: string) => new TextEncoder().encode(text);
  return {
    run: (argv) => {
      const knows = argv.includes("state") && status !== undefined;
      const stdout = bytes(knows ? JSON.stringify({ status, pid: 1 }) : "");
      return Promise.resolve({ code: knows ? 0 : 1, stdout, stderr: bytes("no such limit\n") });
    },
  };
}

Deno.test("update() fails in crun's words when the container runs", async () => {
  const runtime = new OciRuntime(crunThatFails("running"), "/state", false);
  const error = await assertRejects(() => runtime.update("c1", {}), CriError, "no such limit");
  assertEquals(error.code, "FAILED_PRECONDITION");
});

for (const status of ["stopped", undefined]) {
  Deno.test(`update() changes nothing when the container is ${status ?? "gone"}`, async () => {
    await new OciRuntime(crunThatFails(status), "/state", false).update("c1", {});
  });
}
