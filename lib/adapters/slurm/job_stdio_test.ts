/** A program with stdin or on a terminal as a job starts it, and clients that attach to it, all on this machine. */
import { assertEquals, assertMatch } from "@std/assert";
import { join } from "@std/path";
import { encodeFields } from "../steps/frames.ts";
import { ATTACH_PROGRAM } from "./step_programs.ts";
import { stdioProgram } from "./job_stdio.ts";
import { NONCE, TestStep } from "./test_step.ts";

/** What the job's script does around the program: `stdio=` comes on its file 3. */
const JOB = `cd "$1" && mkfifo stdin && mkdir status && exec 3>told >>stdout 2>>stderr || exit 99
perl stdio.pl 3 sh -c "$2"
code=$?
keeper=$(sed -n 's/^stdio=//p' told)
while [ -n "$keeper" ] && [ -e "/proc/$keeper/exe" ]; do sleep 0.02; done
echo "code=$code" >status/exit
exit "$code"`;

class StdioJob implements AsyncDisposable {
  private constructor(readonly directory: string, readonly child: Deno.ChildProcess) {}

  static async start(
    config: { stdin: boolean; stdinOnce?: boolean; tty: boolean },
    script: string,
  ): Promise<StdioJob> {
    const directory = await Deno.makeTempDir({ prefix: "stdio-" });
    const program = stdioProgram({ stdinOnce: false, ...config });
    await Deno.writeTextFile(join(directory, "stdio.pl"), program);
    const child = new Deno.Command("sh", {
      args: ["-c", JOB, "sh", directory, script],
      stdin: "null",
    })
      .spawn();
    const job = new StdioJob(directory, child);
    await job.writes(/ready/);
    return job;
  }

  attach(givesInput = true): TestStep {
    const fields = [NONCE, this.directory, 1, givesInput ? 1 : 0];
    return new TestStep(ATTACH_PROGRAM, encodeFields(fields));
  }

  async stdout(): Promise<string> {
    return await Deno.readTextFile(join(this.directory, "stdout")).catch(() => "");
  }

  /** Waits until the program has written what matches. */
  async writes(pattern: RegExp): Promise<void> {
    while (!pattern.test(await this.stdout())) await new Promise((done) => setTimeout(done, 10));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.child.status;
    assertEquals(await Deno.readTextFile(join(this.directory, "stderr")), "");
    await Deno.remove(this.directory, { recursive: true });
  }
}

Deno.test("a program with stdin gets what clients send, and its end when it has stdinOnce", async () => {
  await using job = await StdioJob.start(
    { stdin: true, stdinOnce: true, tty: false },
    "echo ready; sha256sum; exit 3",
  );
  const step = job.attach();
  await step.tells("started");
  const text = "0123456789".repeat(50_000);
  for (let at = 0; at < text.length; at += 50_000) step.type(text.slice(at, at + 50_000));
  step.endInput();
  await step.ended;
  const sum = new Uint8Array(
    await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)),
  ).toHex();
  // What was written before is in the log, and not told again.
  assertEquals(step.output.stdout, `${sum}  -\n`);
  assertEquals(step.frames.at(-1), { kind: "exited", code: 0 });
  assertEquals((await job.child.status).code, 3);
});

Deno.test("a program's stdin ends when its only client of stdinOnce goes", async () => {
  await using job = await StdioJob.start(
    { stdin: true, stdinOnce: true, tty: false },
    "echo ready; cat; echo over",
  );
  const step = job.attach();
  await step.tells("started");
  step.type("half");
  await step.shows(/half/);
  await step.abandon();
  await job.writes(/half\nover|halfover/);
});

Deno.test("a program's stdin of stdinOnce outlives a client that has none", async () => {
  await using job = await StdioJob.start(
    { stdin: true, stdinOnce: true, tty: false },
    "echo ready; cat; echo over",
  );
  const looker = job.attach(false);
  await looker.tells("started");
  looker.endInput();
  const step = job.attach();
  step.type("all\n");
  await looker.shows(/all/);
  await looker.abandon();
  step.type("of it\n");
  step.endInput();
  await step.ended;
  assertMatch(await job.stdout(), /all\nof it\nover\n$/);
});

Deno.test("a program's stdin outlives its clients without stdinOnce", async () => {
  await using job = await StdioJob.start(
    { stdin: true, tty: false },
    'echo ready; read a; read b; echo "$a $b"',
  );
  const first = job.attach();
  await first.tells("started");
  first.type("one\n");
  first.endInput();
  await first.tells("taken");
  await first.abandon();
  const second = job.attach();
  await second.tells("started");
  second.type("two\n");
  await second.shows(/one two/);
  await second.ended;
});

Deno.test("a program on a terminal has its size, its echo and its signals", async () => {
  await using job = await StdioJob.start(
    { stdin: true, tty: true },
    "trap 'echo caught; exit 7' INT; tty; echo ready; read line; stty size; while :; do sleep 0.1; done",
  );
  assertMatch(await job.stdout(), /^\/dev\/pts\/\d+\r\nready\r\n$/);
  const step = job.attach();
  await step.tells("started");
  step.resize(90, 30);
  step.type("typed\n");
  await step.shows(/^typed\r\n30 90\r\n/);
  step.type("\x03");
  await step.shows(/caught\r\n/);
  await step.ended;
  assertEquals((await job.child.status).code, 7);
});

Deno.test("a terminal's program loses nothing of what it writes last", async () => {
  await using job = await StdioJob.start(
    { stdin: false, tty: true },
    "echo ready; head -c 300000 /dev/zero | tr '\\0' x; printf end",
  );
  await job.child.status;
  const text = await job.stdout();
  assertEquals([text.length, text.slice(-4)], [300_000 + "ready\r\nend".length, "xend"]);
});
