/** Commands with streams and terminals in a container made of this machine's own parts. */
import { assert, assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import { type Frame } from "../steps/frames.ts";
import { encodeRequest, ENTER_PROGRAM } from "./step_programs.ts";
import { TestContainer } from "./test_container.ts";
import { NONCE, TestStep } from "./test_step.ts";

function enter(container: TestContainer, stdio: "pipe" | "tty", script: string): TestStep {
  const request = container.request(["sh", "-c", script], {
    nonce: NONCE,
    maxOutputBytes: 0,
    stdio,
  });
  return new TestStep(ENTER_PROGRAM, encodeRequest(request));
}

/** How many bytes of input were taken. */
const taken = (frames: Frame[]) =>
  frames.reduce((sum, frame) => sum + (frame.kind === "taken" ? frame.bytes : 0), 0);

Deno.test("enter_container.pl passes input on, tells what was taken, and half-closes", async () => {
  await using container = await TestContainer.start();
  const step = enter(container, "pipe", "cat; echo over >&2; exit 5");
  for (let turn = 0; turn < 40; turn++) step.type("x".repeat(30_000));
  step.endInput();
  await step.ended;
  assertEquals([step.output.stdout.length, step.output.stderr], [1_200_000, "over\n"]);
  assertEquals([taken(step.frames), step.frames.at(-1)], [1_200_000, { kind: "exited", code: 5 }]);
});

Deno.test("enter_container.pl takes no more than fits when a command does not read, and goes on", async () => {
  await using container = await TestContainer.start();
  const step = enter(container, "pipe", "sleep 0.5; echo now; wc -c");
  for (let turn = 0; turn < 10; turn++) step.type("x".repeat(60_000));
  await step.shows(/now/);
  step.endInput();
  await step.shows(/600000/);
  await step.ended;
});

Deno.test("enter_container.pl takes all input when the command has closed its stdin", async () => {
  await using container = await TestContainer.start();
  const step = enter(container, "pipe", "exec <&-; echo closed; sleep 603");
  await step.shows(/closed/);
  for (let turn = 0; turn < 10; turn++) step.type("x".repeat(60_000));
  while (taken(step.frames) < 600_000) await delay(10);
  await step.abandon();
});

Deno.test("enter_container.pl kills a command that does not read when nobody waits any more", async () => {
  await using container = await TestContainer.start();
  const step = enter(container, "pipe", "echo on; sleep 602");
  await step.shows(/on/);
  for (let turn = 0; turn < 10; turn++) step.type("x".repeat(60_000));
  await step.abandon();
  assertEquals(step.frames.at(-1), { kind: "abandoned" });
});

Deno.test("enter_container.pl gives a command a terminal of its own", async () => {
  await using container = await TestContainer.start();
  const step = enter(container, "tty", "tty; echo $TERM; stty size; read line; stty size; exit 4");
  step.resize(101, 33);
  await step.shows(/^\/dev\/pts\/\d+\r\nxterm\r\n33 101\r\n/);
  step.resize(80, 24);
  step.type("go\n");
  await step.ended;
  assert(step.output.stdout.endsWith("go\r\n24 80\r\n"), JSON.stringify(step.output));
  assertEquals(step.frames.at(-1), { kind: "exited", code: 4 });
});

Deno.test("enter_container.pl lets a terminal interrupt its command", async () => {
  await using container = await TestContainer.start();
  const step = enter(
    container,
    "tty",
    "trap 'echo caught; exit 3' INT; echo on; while :; do sleep 1; done",
  );
  await step.shows(/on/);
  step.type("\x03");
  await step.ended;
  assertEquals(step.frames.at(-1), { kind: "exited", code: 3 });
});
