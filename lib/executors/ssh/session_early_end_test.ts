import { assert, assertEquals } from "@std/assert";
import type { CriCode } from "../../base/error.ts";
import { MAX_EXEC_CHANNELS } from "./channel_budget.ts";
import type { ScriptOptions } from "./session.ts";
import { assertFails, startTestSession, text, until } from "./test_session.ts";

const EARLY_ENDS: {
  when: string;
  /** What the script ends with; `wait` by default. */
  body?: string;
  options: () => ScriptOptions;
  code: CriCode;
  message: RegExp;
}[] = [
  {
    when: "its time is over",
    options: () => ({ timeoutMs: 300 }),
    code: "DEADLINE_EXCEEDED",
    message: /user@127\.0\.0\.1:\d+ as it must end within 300 ms: its processes were killed$/,
  },
  {
    when: "the caller cancels",
    options: () => {
      const controller = new AbortController();
      setTimeout(() => controller.abort(new Error("client went away")), 300);
      return { signal: controller.signal };
    },
    code: "CANCELLED",
    message: /cancelled \(client went away\): its processes were killed$/,
  },
  {
    when: "stdout grows too large",
    body: "yes",
    options: () => ({ maxOutputBytes: 100_000 }),
    code: "RESOURCE_EXHAUSTED",
    message: /stdout .* at most 100000 bytes: its processes were killed$/,
  },
  {
    when: "its input fails",
    options: () => ({
      stdin: {
        [Symbol.asyncIterator]: () => ({
          next: () => Promise.reject(new Error("disk on fire")),
        }),
      },
    }),
    code: "CANCELLED",
    message: /input failed: disk on fire: its processes were killed$/,
  },
];

for (const { when, body, options, code, message } of EARLY_ENDS) {
  Deno.test(`ClusterSession.run() kills the remote process group when ${when}`, async () => {
    await using test = await startTestSession();
    const pids = `${test.folder}/pids`;
    // A background child that ignores SIGTERM and holds the output open.
    const script = `trap '' TERM; sleep 300 & echo $! $$ > ${pids}; ${body ?? "wait"}`;
    await assertFails(() => test.session.run(script, options()), code, message);
    const written = await Deno.readTextFile(pids).catch(() => "");
    for (const pid of written.trim().split(" ").filter(Boolean)) {
      await until(() => hasEnded(pid));
    }
  });
}

/** Whether the process is gone or only waits to be reaped. */
function hasEnded(pid: string): boolean {
  const { stdout } = new Deno.Command("ps", { args: ["-o", "stat=", "-p", pid] }).outputSync();
  return /^(Z.*)?$/.test(text(stdout).trim());
}

Deno.test("ClusterSession.run() starts nothing when it was cancelled before", async () => {
  await using test = await startTestSession();
  await assertFails(
    () => test.session.run("true", { signal: AbortSignal.abort(new Error("too late")) }),
    "CANCELLED",
    /too late\): it was not started/,
  );
  assertEquals(test.server.commands, 0);
});

Deno.test("ClusterSession.run() says that a script had not begun when a login script hangs", async () => {
  await using test = await startTestSession({ faults: { onCommand: () => true } });
  await test.session.connect();
  await assertFails(
    () => test.session.run("true", { timeoutMs: 100 }),
    "DEADLINE_EXCEEDED",
    /within 100 ms: it had not begun$/,
  );
});

Deno.test("ClusterSession.run() cannot tell the outcome when the connection is lost on the way", async () => {
  await using test = await startTestSession();
  const running = test.session.run(`touch ${test.folder}/began; sleep 60`);
  running.catch(() => {});
  await until(() => exists(`${test.folder}/began`));
  test.server.cutAll();
  await assertFails(() => running, "UNKNOWN", /whether it ran.*Lost the connection to user@127/);
  assertEquals((await test.session.run("exit 4")).code, 4);
});

Deno.test("ClusterSession.run() tells that nothing ran when the connection is lost in the queue", async () => {
  await using test = await startTestSession();
  await test.session.connect();
  const running = Array.from({ length: MAX_EXEC_CHANNELS }, () => test.session.run("sleep 60"));
  const queued = test.session.run(`touch ${test.folder}/ran`);
  const settled = Promise.allSettled([...running, queued]);
  await until(() => test.server.commands === MAX_EXEC_CHANNELS);
  test.server.cutAll();
  await settled;
  await assertFails(() => queued, "UNAVAILABLE", /Lost the connection/);
  assert(!exists(`${test.folder}/ran`));
});

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}
