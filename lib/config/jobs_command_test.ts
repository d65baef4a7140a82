import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { parseInvocation } from "./flags.ts";
import { UsageError } from "./usage_error.ts";
import { type JobsCommand, parseJobsCommand } from "./jobs_command.ts";

const COMMANDS: readonly [words: string[], JobsCommand][] = [
  [["list"], { kind: "list" }],
  [["end", "hpc/17", "a.b-c_1/9"], {
    kind: "end",
    jobs: [{ cluster: "hpc", jobId: "17" }, { cluster: "a.b-c_1", jobId: "9" }],
  }],
  [["abandon", "c1", "c2"], { kind: "abandon", containers: ["c1", "c2"] }],
];

for (const [words, command] of COMMANDS) {
  Deno.test(`parseJobsCommand() reads '${words.join(" ")}'`, () => {
    assertEquals(parseJobsCommand(words), command);
  });
}

for (
  const words of [[], ["list", "x"], ["end"], ["end", "17"], ["end", "a/b"], ["abandon"], ["x"]]
) {
  Deno.test(`parseJobsCommand() refuses '${words.join(" ")}' with the usage`, () => {
    const { message, help } = assertThrows(() => parseJobsCommand(words), UsageError);
    assertEquals(message.includes("\n"), false);
    assertStringIncludes(help ?? "", "\nmulticri jobs end CLUSTER/JOB…");
  });
}

Deno.test("parseInvocation() reads a command about jobs and its flags", () => {
  const invocation = parseInvocation(
    ["jobs", "end", "hpc/17", "--socket-path", "/run/x.sock"],
    () => undefined,
  );
  if (invocation.kind !== "jobs") throw new Error(invocation.kind);
  assertEquals(invocation.command, { kind: "end", jobs: [{ cluster: "hpc", jobId: "17" }] });
  assertEquals(invocation.config.socketPath, "/run/x.sock");
  assertThrows(
    () => parseInvocation(["jobs", "list", "-v", "1", "hpc/17"], () => undefined),
    UsageError,
    "hpc/17",
  );
});
