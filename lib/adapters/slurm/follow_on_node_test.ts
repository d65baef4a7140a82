/** follow.pl, run on this machine. */
import { assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import { join } from "@std/path";
import { encodeFields, type Frame } from "../steps/frames.ts";
import { FOLLOW_PROGRAM } from "./step_programs.ts";
import { NONCE, TestStep } from "./test_step.ts";

/** A container's directory, and its follower from these offsets. */
async function withJob(
  use: (directory: string, follow: (stdout?: number, stderr?: number) => TestStep) => Promise<void>,
): Promise<void> {
  const directory = await Deno.makeTempDir();
  await Deno.mkdir(join(directory, "status"));
  try {
    await use(
      directory,
      (stdout = 0, stderr = 0) =>
        new TestStep(FOLLOW_PROGRAM, encodeFields([NONCE, directory, stdout, stderr])),
    );
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** As a job does: whole, or not there. */
async function writeStatus(directory: string, name: string, text: string): Promise<void> {
  await Deno.writeTextFile(join(directory, name), text);
  await Deno.rename(join(directory, name), join(directory, "status", name));
}

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const statuses = (frames: Frame[]) =>
  frames.flatMap((frame) => frame.kind === "status" ? [[text(frame.start), text(frame.exit)]] : []);

Deno.test("follow.pl tells a job's start, its output as it comes, and its exit after all of it", () =>
  withJob(async (directory, follow) => {
    const step = follow();
    await step.tells("started");
    await writeStatus(directory, "start", "pid=1\n");
    await step.tells("status");
    await Deno.writeTextFile(join(directory, "stdout"), "one\ntw");
    await step.shows(/^one\ntw$/);
    await Deno.writeTextFile(join(directory, "stderr"), "oops\n");
    await step.shows(/^oops\n$/, "stderr");
    const rest = "x".repeat(300_000);
    await Deno.writeTextFile(join(directory, "stdout"), rest, { append: true });
    await writeStatus(directory, "exit", "code=0\n");
    while (statuses(step.frames).length < 2) await delay(10);
    assertEquals(step.output.stdout, `one\ntw${rest}`);
    assertEquals(statuses(step.frames), [["pid=1\n", ""], ["pid=1\n", "code=0\n"]]);
    await step.abandon();
  }));

Deno.test("follow.pl begins at the offsets that it is given, and tells what a job that runs again takes back", () =>
  withJob(async (directory, follow) => {
    await Deno.writeTextFile(join(directory, "stdout"), "before after");
    await Deno.writeTextFile(join(directory, "stderr"), "gone");
    await writeStatus(directory, "start", "run=1\n");
    await writeStatus(directory, "exit", "code=1\n");
    const step = follow(7, 4);
    await step.shows(/^after$/);
    await step.tells("status");
    await Deno.remove(join(directory, "status/exit"));
    await writeStatus(directory, "start", "run=2\n");
    while (statuses(step.frames).at(-1)?.[0] !== "run=2\n") {
      await delay(10);
    }
    assertEquals(statuses(step.frames)[0], ["run=1\n", "code=1\n"]);
    assertEquals(statuses(step.frames).at(-1), ["run=2\n", ""]);
    assertEquals(step.output.stderr, "");
    await step.abandon();
  }));

Deno.test("follow.pl ends when a file cannot be read any more", () =>
  withJob(async (directory, follow) => {
    await Deno.writeTextFile(join(directory, "stdout"), "one\n");
    // What can be opened and gives an error when it is read.
    await Deno.mkdir(join(directory, "stderr"));
    const step = follow();
    await step.ended;
    assertEquals(step.frames.map(({ kind }) => kind), ["started"]);
  }));
