import { assertEquals, assertRejects } from "@std/assert";
import { type Clock, systemClock } from "../../base/clock.ts";
import { CriError } from "../../base/error.ts";
import { TestClock } from "../../base/test_clock.ts";
import { localProcesses } from "../../executors/local_process.ts";
import nodeProgram from "../steps/node.pl" with { type: "text" };
import stepProgram from "../steps/step.pl" with { type: "text" };
import { runNodeStep } from "./step.ts";

const NEVER = new AbortController().signal;

/** Runs a program of Perl behind those that speak in frames; returns the kinds of the frames and the end. */
async function run(
  program: string,
  signal = NEVER,
  clock: Clock = systemClock,
): Promise<[string[], unknown]> {
  const kinds: string[] = [];
  const step = {
    verb: "try a step",
    program: nodeProgram + stepProgram + program,
    fields: ["a b", 2],
  };
  const means = { processes: localProcesses, clock };
  const end = await runNodeStep(means, step, signal, ({ kind }) => void kinds.push(kind));
  return [kinds, end];
}

Deno.test("runNodeStep() passes the fields, and tells what comes and how it ended", async () => {
  const program = `frame('s', ''); frame('o', "@request"); frame('x', 7); finish();`;
  assertEquals(await run(program), [["started", "stdout", "exited"], { kind: "exited", code: 7 }]);
});

Deno.test("runNodeStep() tells why a step does not begin", async () => {
  const [, end] = await run(`fail('command', "no such file");`);
  assertEquals(end, { kind: "refused", why: "command", text: "no such file" });
});

Deno.test("runNodeStep() throws the words of a program that ended without a word", async () => {
  await assertRejects(() => run(`die "broken\\n";`), CriError, "ended with 255: broken");
});

Deno.test("runNodeStep() ends the program when the signal aborts", async () => {
  const controller = new AbortController();
  const program = `frame('s', ''); write_some(); 1 while sysread STDIN, my $piece, 100; finish();`;
  const ended = assertRejects(() => run(program, controller.signal), Error, "gone");
  controller.abort(new Error("gone"));
  await ended;
});

Deno.test("runNodeStep() kills a program that does not end when the signal aborts", async () => {
  const controller = new AbortController();
  const clock = new TestClock();
  const ended = assertRejects(
    () => run("frame('s', ''); write_some(); sleep 1 while 1;", controller.signal, clock),
    Error,
    "gone",
  );
  controller.abort(new Error("gone"));
  await clock.sleeping(5_000);
  clock.advance(5_000);
  await ended;
});
