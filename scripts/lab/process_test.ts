import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  childrenOf,
  identify,
  isAlive,
  killTree,
  parseStat,
  recordedProcess,
  recordedScript,
  run,
  runOk,
  shellWord,
} from "./process.ts";
import { waitFor } from "./progress.ts";

Deno.test("parseStat() finds state and start when the program's name holds blanks and parentheses", () => {
  const fields = "S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 9 10";
  for (const name of ["sleep", "a b", ") S 1 (", "(x) (y)"]) {
    assertEquals(parseStat(`42 (${name}) ${fields}\n`), {
      pid: 42,
      state: "S",
      startTicks: "123456",
    });
  }
});

Deno.test("run() returns exit code and both outputs when the command ends", async () => {
  const cases = [
    { script: "echo out; echo err >&2; exit 7", code: 7, stdout: "out\n", stderr: "err\n" },
    { script: "kill -9 $$", code: 137, stdout: "", stderr: "" },
    { script: "exec /no/such/program 2>&-", code: 127, stdout: "", stderr: "" },
    { script: 'printf %s "$X"', code: 0, stdout: "from env", stderr: "" },
  ];
  for (const { script, ...expected } of cases) {
    assertEquals(await run(["sh", "-c", script], { env: { X: "from env" } }), expected);
  }
});

Deno.test("run() feeds standard input, and does not mind when the command ignores it", async () => {
  const text = "x".repeat(200_000);
  assertEquals((await run(["wc", "-c"], { stdin: text })).stdout.trim(), "200000");
  assertEquals((await run(["true"], { stdin: text })).code, 0);
  assertEquals((await run(["cat"])).stdout, "");
});

Deno.test("run() kills the whole tree and throws when the time is up", async () => {
  const marker = await Deno.makeTempFile();
  const script = `sleep 300 & echo $! > ${shellWord(marker)}; echo begun; wait`;
  const error = await assertRejects(() => run(["sh", "-c", script], { timeoutMs: 300 }), Error);
  assert(error.message.includes("did not end within 0.3 s"), error.message);
  assert(error.message.includes("begun"), error.message);
  const grandchild = Number(await Deno.readTextFile(marker));
  await waitFor("The end of the grandchild", async () => await identify(grandchild) === undefined, {
    timeoutMs: 10_000,
    log: marker,
  });
  await Deno.remove(marker);
});

Deno.test("run() throws in time when a daemon that left the tree holds its output open", async () => {
  const marker = await Deno.makeTempFile();
  const script = `setsid --fork sh -c 'echo $$ > ${marker}; exec sleep 300'; sleep 300`;
  await assertRejects(
    () => run(["sh", "-c", script], { timeoutMs: 500 }),
    Error,
    "did not end within",
  );
  await killTree(Number(await Deno.readTextFile(marker)));
  await Deno.remove(marker);
});

Deno.test("runOk() throws with the last words when the exit code is not 0", async () => {
  await assertRejects(
    () => runOk(["sh", "-c", "echo one >&2; echo two >&2; exit 3"]),
    Error,
    "failed with exit code 3: one; two",
  );
});

Deno.test("recordedProcess() finds the recorded command while it runs, and never another", async () => {
  const stat = await Deno.makeTempFile();
  assertEquals(await recordedProcess(stat), undefined);
  const script = recordedScript(stat, "echo ready && exec sleep 300");
  const child = new Deno.Command("sh", { args: ["-c", script], stdout: "piped" }).spawn();
  const reader = child.stdout.getReader();
  await reader.read();
  const found = await recordedProcess(stat);
  assertEquals(found?.pid, child.pid);
  assert(found !== undefined && await isAlive(found));
  assert(!await isAlive({ pid: child.pid, startTicks: "1" }), "a later process of the same pid");
  await killTree(child.pid);
  await child.status;
  assertEquals(await recordedProcess(stat), undefined);
  await reader.cancel();
  await Deno.remove(stat);
});

Deno.test("childrenOf() returns nothing when there is no such process", async () => {
  assertEquals(await childrenOf(2 ** 22 + 1), []);
});

Deno.test("shellWord() comes out of sh unchanged", async () => {
  for (
    const word of ["", "a b", "it's", "''", "$HOME `id`", "back\\slash", "new\nline", '"', "é"]
  ) {
    assertEquals(await runOk(["sh", "-c", `printf %s ${shellWord(word)}`]), word);
  }
});
