/** Logs of running jobs on the real lab, as users and a kubelet read and rotate them. */
import { assert, assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import { Harness } from "./harness.ts";

const MAX_LOG_BYTES = 1_000_000;
/** What a log's file may be longer: one piece that is formatted at once, and a line. */
const MORE_BYTES = 1024 * 1024 + 20_000;

let harness: Harness;
Deno.test.beforeAll(async () => {
  harness = await Harness.start({
    name: "logs",
    flags: ["--max-log-bytes", String(MAX_LOG_BYTES)],
  });
});
Deno.test.afterAll(() => harness?.stop());

const sh = (script: string) => ["/bin/sh", "-c", script];
const numbers = (count: number) => Array.from({ length: count }, (_, index) => `${index + 1}`);

Deno.test("crictl logs -f shows what a job writes, and ends with it", async () => {
  const made = await harness.run({ command: sh("echo one; echo other >&2; sleep 2; echo two") });
  const { code, stdout, stderr } = await harness.server.crictl(["logs", "-f", made.container]);
  assertEquals([code, stdout], [0, "one\ntwo\n"]);
  assert(stderr.includes("other\n") && stderr.includes("multicri: job "), stderr);
  await harness.removeCleanly(made);
});

Deno.test("a job that writes much fills its log to its bound only, and goes on when it is rotated", async () => {
  const made = await harness.run({ command: sh("seq 1 150000; exit 4") });
  const { status } = await harness.running(made.container);
  const path = harness.lab.path("knode", status.logPath);
  const files: string[][] = [];
  for (let exited = false; !exited;) {
    const { info } = await harness.until(made.container, "full or exited", async ({ status }) => {
      exited = status.state === "CONTAINER_EXITED";
      return exited || (await Deno.stat(path)).size >= MAX_LOG_BYTES;
    });
    assert(info.slurm.jobId !== undefined);
    // Nothing more may come.
    await delay(1_000);
    assert((await Deno.stat(path)).size <= MAX_LOG_BYTES + MORE_BYTES);
    files.push((await harness.logs(made.container)).stdout);
    if (exited) break;
    await Deno.rename(path, `${path}.${files.length}`);
    await harness.server.crictlOk(["logs", "--reopen", made.container]);
  }
  assert(files.length > 2, `${files.length} files`);
  assertEquals(files.flat(), numbers(150_000));
  assertEquals((await harness.inspect(made.container)).status.exitCode, 4);
  await harness.removeCleanly(made);
});

Deno.test("a job's end and what its log lacks are told when nobody rotates a full log", async () => {
  const made = await harness.run({ command: sh("seq 1 150000; exit 4") });
  assertEquals((await harness.exited(made.container)).status.exitCode, 4);
  const { stdout, own } = await harness.logs(made.container);
  assertEquals(stdout, numbers(stdout.length));
  const left = numbers(150_000).slice(stdout.length).join("\n").length + 1;
  assertEquals(
    own.at(-1),
    `the log is full and nobody rotates it: ${left} bytes of stdout and 0 of stderr are left out`,
  );
  await harness.removeCleanly(made);
});

Deno.test("a job's log holds what its program writes to /dev/stdout and /dev/stderr by name", async () => {
  const script =
    "for i in 1 2 3; do echo $i; echo o$i >/dev/stdout; echo e$i >/dev/stderr; sleep 0.5; done";
  const made = await harness.run({ command: sh(script) });
  await harness.exited(made.container);
  const { stdout, stderr } = await harness.logs(made.container);
  assertEquals([stdout, stderr], [["1", "o1", "2", "o2", "3", "o3"], ["e1", "e2", "e3"]]);
  await harness.removeCleanly(made);
});
