import { assertEquals, assertObjectMatch } from "@std/assert";
import { judgeEnd, LOST_EXIT_CODE, parseQueue } from "./queue.ts";

Deno.test("parseQueue() reads squeue's lines and leaves others out", () => {
  const text = [
    "Warning: something|about|the|weather",
    "101|main|PENDING|2026-01-02T03:04:05|4294901759||Resources",
    "102|main|RUNNING|2026-01-02T03:04:05|10|n[1-2]|None",
    "103|main|PENDING|N/A|10||(ReqNodeNotAvail, UnavailableNodes:n|1)",
    "104|main|COMPLETING|N/A|10|n1|None",
    "105|main|CANCELLED|N/A|10||None",
    "106|main|NEWSTATE|N/A|10||None",
    "107",
    "",
  ].join("\n");
  const entry = (
    state: string,
    phase: string,
    reason: string,
    rest: Record<string, string> = {},
  ) => ({
    partition: "main",
    state,
    phase,
    reason,
    expectedStart: "",
    priority: "10",
    nodes: "",
    ...rest,
  });
  const expectedStart = "2026-01-02T03:04:05";
  assertEquals<unknown>(Object.fromEntries(parseQueue(text)), {
    101: entry("PENDING", "pending", "Resources", { expectedStart, priority: "4294901759" }),
    102: entry("RUNNING", "running", "None", { expectedStart, nodes: "n[1-2]" }),
    103: entry("PENDING", "pending", "(ReqNodeNotAvail, UnavailableNodes:n|1)"),
    104: entry("COMPLETING", "running", "None", { nodes: "n1" }),
    105: entry("CANCELLED", "ended", "None"),
    106: entry("NEWSTATE", "running", "None"),
  });
});

const controller = (state: string, code: string) =>
  `JobId=7 JobName=multicri-c1 JobState=${state} Reason=None ExitCode=${code} ` +
  `DerivedExitCode=9:9 Comment=multicri pod=ns/p\n--\n`;
const NOBODY = "\n--\n--\n";

interface Verdict {
  output: string;
  lastState?: string;
  code: number;
  reason: string;
}

/** With accounting and without, as recorded; the controller is asked first. */
const ENDS: Record<string, Verdict> = {
  "COMPLETED": { output: controller("COMPLETED", "0:0") + "--\n", code: 0, reason: "Completed" },
  "exit 7": { output: controller("FAILED", "7:0") + "--\n", code: 7, reason: "Error" },
  "SIGSEGV": { output: controller("FAILED", "0:11") + "--\n", code: 139, reason: "Error" },
  "FAILED without a code": {
    output: controller("FAILED", "0:0") + "--\n",
    code: LOST_EXIT_CODE,
    reason: "Error",
  },
  "CANCELLED": { output: controller("CANCELLED", "0:15") + "--\n", code: 221, reason: "Cancelled" },
  "TIMEOUT": {
    output: controller("TIMEOUT", "0:15") + "--\n",
    code: 222,
    reason: "DeadlineExceeded",
  },
  "DEADLINE": {
    output: controller("DEADLINE", "0:0") + "--\n",
    code: 223,
    reason: "DeadlineExceeded",
  },
  "NODE_FAIL": { output: controller("NODE_FAIL", "0:0") + "--\n", code: 224, reason: "NodeFail" },
  "PREEMPTED": { output: controller("PREEMPTED", "0:15") + "--\n", code: 225, reason: "Preempted" },
  "BOOT_FAIL": { output: controller("BOOT_FAIL", "0:0") + "--\n", code: 226, reason: "BootFail" },
  "OUT_OF_MEMORY": {
    output: controller("OUT_OF_MEMORY", "0:125") + "--\n",
    code: 137,
    reason: "OOMKilled",
  },
  "accounting: COMPLETED": {
    output: "\n--\nCOMPLETED|0:0\n--\n",
    code: 0,
    reason: "Completed",
  },
  "accounting: CANCELLED by 1000": {
    output: "\n--\nCANCELLED by 1000|0:0\n--\n",
    code: 221,
    reason: "Cancelled",
  },
  "accounting: OOM in a step": {
    output: "\n--\nFAILED|1:0\n--\n",
    code: 1,
    reason: "Error",
  },
  "accounting: OUT_OF_MEMORY": {
    output: "\n--\nOUT_OF_MEMORY|0:125\n--\n",
    code: 137,
    reason: "OOMKilled",
  },
  "accounting lags behind the queue": {
    output: "\n--\nRUNNING|0:0\n--\n",
    lastState: "TIMEOUT",
    code: 222,
    reason: "DeadlineExceeded",
  },
  "only the queue knew": { output: NOBODY, lastState: "NODE_FAIL", code: 224, reason: "NodeFail" },
  "only the queue knew that it succeeded": {
    output: NOBODY,
    lastState: "COMPLETED",
    code: 0,
    reason: "Completed",
  },
  "vanished": { output: NOBODY, code: LOST_EXIT_CODE, reason: "JobLost" },
  "vanished while it ran": {
    output: NOBODY,
    lastState: "RUNNING",
    code: LOST_EXIT_CODE,
    reason: "JobLost",
  },
  "accounting says it runs but the controller does not know it": {
    output: "\n--\nRUNNING|0:0\n--\n",
    code: LOST_EXIT_CODE,
    reason: "JobLost",
  },
};

for (const [what, { output, lastState, code, reason }] of Object.entries(ENDS)) {
  Deno.test(`judgeEnd() says ${code} ${reason} when the job's end is: ${what}`, () => {
    const end = judgeEnd(output, "7", lastState);
    assertObjectMatch(end, { kind: "ended", exitCode: code, reason });
  });
}

for (
  const [state, kind] of [
    ["PENDING", "pending"],
    ["REQUEUED", "pending"],
    ["RUNNING", "running"],
    ["COMPLETING", "running"],
    ["STATE_OF_TOMORROW", "running"],
  ] as const
) {
  Deno.test(`judgeEnd() says ${kind} when the controller says ${state}`, () => {
    assertEquals(judgeEnd(`${controller(state, "0:0")}--\n`, "7", "NODE_FAIL"), { kind });
  });
}

function messageOf(output: string): string | undefined {
  const verdict = judgeEnd(output, "7", undefined);
  return verdict.kind === "ended" ? verdict.message : undefined;
}

Deno.test("judgeEnd() tells Slurm's own last words", () => {
  const log = [
    "--",
    "slurmstepd: error: first",
    "slurmstepd: error: *** JOB 7 ON n1 CANCELLED DUE TO TIME LIMIT ***",
    "--",
    "noise",
  ].join("\n");
  assertEquals(
    messageOf(`${controller("TIMEOUT", "0:15")}--\n${log}`),
    "Slurm ended the job 7 with state TIMEOUT: slurmstepd: error: *** JOB 7 ON n1 CANCELLED DUE TO " +
      "TIME LIMIT ***",
  );
  assertEquals(
    messageOf(NOBODY),
    "Slurm no longer knows the job 7, and it left no exit code",
  );
});
