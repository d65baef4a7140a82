import { assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { CriError } from "../base/error.ts";
import { createLocalExecutor } from "../executors/local.ts";
import type { Executor, RunResult } from "../executors/executor.ts";
import { removeLock, runLocked } from "./locked_run.ts";

Deno.test("runLocked() waits for what another process has started, to its last descendant", async () => {
  const directory = await Deno.makeTempDir({ prefix: "lock-" });
  const lock = `${directory}/lock`;
  // The one that was started ends at once, as a plugin that is killed; its own child goes on.
  const script = `echo > ${directory}/begun; (sleep 0.3; echo last > ${directory}/words) & exit 0`;
  const args = ["--no-fork", lock, "sh", "-c", script];
  const { success } = await new Deno.Command("flock", { args, stdout: "null" }).output();
  const result = await runLocked(createLocalExecutor(), lock, ["cat", `${directory}/words`], {});
  assertEquals([success, new TextDecoder().decode(result.stdout)], [true, "last\n"]);
  await removeLock(lock);
  await removeLock(lock);
  await Deno.remove(directory, { recursive: true });
});

Deno.test("runLocked() kills what a command has started when the command takes too long", async () => {
  const directory = await Deno.makeTempDir({ prefix: "lock-" });
  const lock = `${directory}/lock`;
  const script = `sleep 1000 & echo > ${directory}/begun; wait`;
  const cancel = new AbortController();
  const run = runLocked(createLocalExecutor(), lock, ["sh", "-c", script], {
    signal: cancel.signal,
  });
  while (!await Deno.stat(`${directory}/begun`).then(() => true, () => false)) await delay(5);
  cancel.abort(new Error("too late"));
  await assertRejects(() => run, CriError, "too late");
  const result = await runLocked(createLocalExecutor(), lock, ["echo", "free"], {});
  assertEquals(new TextDecoder().decode(result.stdout), "free\n");
  await Deno.remove(directory, { recursive: true });
});

Deno.test("runLocked() gives up a lock that stays taken, and runs the command with a new one", async () => {
  const directory = await Deno.makeTempDir({ prefix: "lock-" });
  const lock = `${directory}/lock`;
  await Deno.writeTextFile(lock, "");
  const none = new Uint8Array();
  const results: RunResult[] = [
    { code: 75, stdout: none, stderr: none },
    { code: 3, stdout: none, stderr: none },
  ];
  const locks: boolean[] = [];
  const executor: Executor = {
    async run() {
      locks.push(await Deno.stat(lock).then(() => true, () => false));
      return results.shift() ?? { code: 0, stdout: none, stderr: none };
    },
  };
  assertEquals((await runLocked(executor, lock, ["true"], {})).code, 3);
  assertEquals(locks, [true, false]);
  await Deno.remove(directory, { recursive: true });
});
