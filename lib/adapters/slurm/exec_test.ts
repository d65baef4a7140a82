/** How answers of the other side become results and errors; the other side is a script of this machine. */
import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { CriError } from "../../base/error.ts";
import { systemClock } from "../../base/clock.ts";
import { TestClock } from "../../base/test_clock.ts";
import type { ScriptOptions } from "../../executors/ssh/session.ts";
import type { ClusterAccount } from "./account.ts";
import { ContainerStarting, execInJob, type ExecRequest } from "./exec.ts";
import { ExecTurns, MAX_EXECS_AT_ONCE } from "./exec_turns.ts";
import { StreamLines } from "./stream_lines.ts";

const REQUEST: ExecRequest = {
  containerId: "c1",
  jobId: "17",
  host: "n1",
  directory: "/d",
  workingDirectory: "/",
  argv: ["probe"],
  timeoutMs: 1000,
};
const NEVER = new AbortController().signal;

type Step = string | "untilLetGo" | "untilCut";

/** An account whose side of each command sends `steps` and ends with a code and words on stderr. */
function account(steps: Step[], code = 0, words = ""): ClusterAccount {
  const run = async (_script: string, options: ScriptOptions) => {
    const stdin = (options.stdin as AsyncIterable<Uint8Array>)[Symbol.asyncIterator]();
    await stdin.next();
    const request = new TextDecoder().decode((await stdin.next()).value as Uint8Array);
    const nonce = /\n([0-9a-f]{32})\0/.exec(request)?.[1] ?? "";
    for (const step of steps) {
      if (step === "untilLetGo") await stdin.next();
      else if (step === "untilCut") {
        await new Promise((_, reject) =>
          options.signal?.addEventListener("abort", () => reject(new CriError("CANCELLED", "cut")))
        );
      } else {
        const bytes = Uint8Array.from(step.replace("NONCE", nonce), (c) => c.charCodeAt(0));
        options.onStdout?.(bytes);
      }
    }
    return { code, stdout: new Uint8Array(), stderr: new TextEncoder().encode(words) };
  };
  const lines = new StreamLines(() => ({ run }) as never, () => {});
  return { name: "u@h:22", lines, execTurns: new ExecTurns() } as never;
}

const frame = (letter: string, text = "") =>
  `${letter}\0\0\0${String.fromCharCode(text.length)}${text}\n`;

Deno.test("execInJob() gives both streams and the exit code", async () => {
  const steps = [
    "noise NONCE" + frame("s") + frame("o", "a") + frame("e", "b"),
    frame("o", "\xff"),
  ];
  const result = await execInJob(
    REQUEST,
    account([...steps, frame("x", "7")]),
    systemClock,
    NEVER,
  );
  assertEquals(result, {
    stdout: Uint8Array.of(97, 255),
    stderr: Uint8Array.of(98),
    exitCode: 7,
  });
});

const FAILURES: {
  when: string;
  steps: Step[];
  code?: number;
  words?: string;
  fails: [code: string, says: RegExp];
}[] = [
  {
    when: "it ran too long",
    steps: ["NONCE" + frame("s") + frame("t")],
    fails: ["DEADLINE_EXCEEDED", /c1 ran longer than 1000 ms and was killed/],
  },
  {
    when: "the image has no such command",
    steps: ["NONCE" + frame("f", "command there is no such file")],
    fails: ["INVALID_ARGUMENT", /Cannot run "probe" in the container c1: there is no such file\./],
  },
  {
    when: "the runtime is setuid",
    steps: ["NONCE" + frame("f", "setuid it is setuid")],
    fails: ["FAILED_PRECONDITION", /c1 on n1: it is setuid\./],
  },
  {
    when: "the node has no perl",
    steps: [],
    code: 2,
    words: "slurmstepd: error: execve(): perl: No such file or directory",
    fails: ["FAILED_PRECONDITION", /takes perl on the node n1/],
  },
  {
    when: "srun cannot make a step",
    steps: [],
    code: 1,
    words: "srun: error: Unable to create step for job 17: Invalid job id\n",
    fails: ["UNAVAILABLE", /srun for the job 17 ended with 1: srun: error: Unable to create step/],
  },
  {
    when: "the step is lost after the command began",
    steps: ["NONCE" + frame("s") + frame("o", "a")],
    code: 137,
    words: "slurmstepd: error: *** STEP CANCELLED ***",
    fails: ["UNKNOWN", /Cannot tell how a command in the container c1 .* STEP CANCELLED/],
  },
  {
    when: "the answer is garbled",
    steps: ["NONCE!!!!!!", "untilLetGo"],
    fails: ["INTERNAL", /writes into its stdout/],
  },
];
for (const { when, steps, code, words, fails } of FAILURES) {
  Deno.test(`execInJob() fails with ${fails[0]} when ${when}`, async () => {
    const error = await assertRejects(
      () => execInJob(REQUEST, account(steps, code, words), systemClock, NEVER),
      CriError,
    );
    assertEquals(error.code, fails[0]);
    assertMatch(error.message, fails[1]);
  });
}

Deno.test("execInJob() throws ContainerStarting when the program is not there yet", async () => {
  const steps = ["NONCE" + frame("f", "starting not yet")];
  await assertRejects(
    () => execInJob(REQUEST, account(steps), systemClock, NEVER),
    ContainerStarting,
    "c1 on n1: not yet.",
  );
});

Deno.test("execInJob() lets the command go, and waits until it is killed, when it is cancelled", async () => {
  const abort = new AbortController();
  const reason = new DOMException("the client cancelled it", "AbortError");
  const steps = ["NONCE" + frame("s"), "untilLetGo", frame("c")];
  const running = execInJob(
    { ...REQUEST, timeoutMs: 0 },
    account(steps),
    systemClock,
    abort.signal,
  );
  setTimeout(() => abort.abort(reason));
  assertEquals(await running.catch((error) => error), reason);
});

Deno.test("execInJob() fails with UNAVAILABLE when the command does not begin in time", async () => {
  const clock = new TestClock();
  const running = execInJob(REQUEST, account(["untilLetGo"], 1), clock, NEVER);
  // Its turn has come, so what sleeps is the wait for its beginning.
  await new Promise((resolve) => setTimeout(resolve));
  await clock.sleeping(60_000);
  clock.advance(60_000);
  const error = await assertRejects(() => running, CriError);
  assertEquals(error.code, "UNAVAILABLE");
});

Deno.test("execInJob() cuts the channel and fails with UNKNOWN when the node is silent", async () => {
  const clock = new TestClock();
  const running = execInJob(REQUEST, account(["NONCE" + frame("s"), "untilCut"]), clock, NEVER);
  await clock.sleeping(1000 + 15_000);
  clock.advance(1000 + 15_000);
  await clock.sleeping(15_000);
  clock.advance(15_000);
  const error = await assertRejects(() => running, CriError);
  assertEquals([error.code, /its node does not answer/.test(error.message)], ["UNKNOWN", true]);
});

Deno.test("execInJob() fails with UNAVAILABLE when a probe's turn does not come in time", async () => {
  const clock = new TestClock();
  const busy = account(["NONCE" + frame("s"), "untilLetGo"]);
  const abort = new AbortController();
  const others = Array.from(
    { length: MAX_EXECS_AT_ONCE },
    () => execInJob({ ...REQUEST, timeoutMs: 100_000 }, busy, clock, abort.signal).catch(() => {}),
  );
  await clock.sleeping(100_000 + 15_000);
  const late = execInJob(REQUEST, busy, clock, NEVER);
  await clock.sleeping(60_000);
  clock.advance(60_000);
  const error = await assertRejects(() => late, CriError, `${MAX_EXECS_AT_ONCE} others`);
  assertEquals(error.code, "UNAVAILABLE");
  abort.abort();
  await Promise.all(others);
});
