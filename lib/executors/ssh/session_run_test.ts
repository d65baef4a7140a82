import { assert, assertEquals } from "@std/assert";
import type { CriCode } from "../../base/error.ts";
import type { ScriptOptions } from "./session.ts";
import { MAX_EXEC_CHANNELS, MAX_WAITING_COMMANDS } from "./channel_budget.ts";
import { MAX_BANNER_BYTES } from "./shell.ts";
import {
  assertFails,
  assertSameBytes,
  everyByte,
  startTestSession,
  text,
  until,
} from "./test_session.ts";

const OUTCOMES: {
  when: string;
  script: string;
  options?: ScriptOptions;
  code?: number;
  stdout?: string;
  stderr?: string;
}[] = [
  { when: "a script prints", script: "echo a; echo b >&2", stdout: "a\n", stderr: "b\n" },
  { when: "a script exits", script: "exit 7", code: 7 },
  { when: "a signal ends the shell", script: "kill -s TERM $$", code: 143 },
  {
    when: "a signal ends a child",
    script: "exec 2> /dev/null; sh -c 'kill -s KILL $$'",
    code: 137,
  },
  {
    when: "a script is full of quotes",
    script: `printf '%s' '!x $(id) \`id\` "q" \\n' "it's"`,
    stdout: '!x $(id) `id` "q" \\nit\'s',
  },
  { when: "a script has many lines", script: "a=1\nb=2\necho $a$b\n", stdout: "12\n" },
  { when: "a script is empty", script: "" },
  { when: "a script reads nothing", script: "cat", stdout: "" },
  { when: "a script does not read its input", script: "true", options: { stdin: everyByte(3e6) } },
  {
    when: "a here document holds UTF-8",
    script: "cat <<'END'\nÄ漢字\nEND\n",
    stdout: "Ä漢字\n",
  },
];

for (const { when, script, options, code, stdout, stderr } of OUTCOMES) {
  Deno.test(`ClusterSession.run() gives exit code and output when ${when}`, async () => {
    await using test = await startTestSession();
    const result = await test.session.run(script, options);
    assertEquals(result.code, code ?? 0);
    if (stdout !== undefined) assertEquals(text(result.stdout), stdout);
    assertEquals(text(result.stderr), stderr ?? "");
  });
}

Deno.test("ClusterSession.run() keeps script and input out of argv when it runs", async () => {
  await using test = await startTestSession();
  const result = await test.session.run(
    `secret=hunter2; tr '\\0' ' ' < /proc/$$/cmdline; cat > /dev/null`,
    { stdin: new TextEncoder().encode("swordfish") },
  );
  assertEquals(
    text(result.stdout).trim(),
    `/bin/sh -c read -r s && eval "$(printf %s "$s" | base64 -d)"`,
  );
});

Deno.test("ClusterSession.run() passes every byte both ways when stdin is given as a stream", async () => {
  await using test = await startTestSession();
  const bytes = everyByte(1_000_000);
  async function* pieces() {
    for (let at = 0; at < bytes.length; at += 77_777) {
      await Promise.resolve();
      yield bytes.subarray(at, at + 77_777);
    }
  }
  const whole = await test.session.run("cat; cat >&2", { stdin: bytes });
  assertSameBytes(whole.stdout, bytes);
  const streamed = await test.session.run("tee /dev/stderr", { stdin: pieces() });
  assertSameBytes(streamed.stdout, bytes);
  assertSameBytes(streamed.stderr, bytes);
});

const NOISES = [
  { when: "there is none", noise: "" },
  { when: "they end without a newline", noise: "Welcome to the cluster" },
  {
    when: "they print a banner of many lines",
    noise: "***\nmaintenance on \x1b[1mMonday\x1b[0m\n\n",
  },
  {
    when: "they print bytes that look like a marker",
    noise: "multicri-0123456789abcdef 1\nmulticri-",
  },
  { when: "they print a great deal", noise: "x".repeat(MAX_BANNER_BYTES / 2) },
];

for (const { when, noise } of NOISES) {
  Deno.test(`ClusterSession.run() drops what login scripts print when ${when}`, async () => {
    await using test = await startTestSession({ faults: { loginNoise: noise } });
    const result = await test.session.run("printf out; printf err >&2; exit 3");
    assertEquals([result.code, text(result.stdout), text(result.stderr)], [3, "out", "err"]);
  });
}

Deno.test("ClusterSession.run() fails when login scripts print without end", async () => {
  await using test = await startTestSession({
    faults: { loginNoise: "x".repeat(MAX_BANNER_BYTES + 1) },
  });
  await assertFails(
    () => test.session.run("true"),
    "FAILED_PRECONDITION",
    /less than 1048576 bytes/,
  );
});

Deno.test("ClusterSession.run() tells what the login shell said when it is none", async () => {
  await using test = await startTestSession({
    faults: {
      onCommand: (channel) => {
        channel.write("This account is currently not available.\n");
        channel.exit(1);
        channel.end();
        return true;
      },
    },
  });
  await assertFails(
    () => test.session.run("true"),
    "FAILED_PRECONDITION",
    /exit code 1 and said "This account is currently not available\."/,
  );
});

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

const BAD_SCRIPTS = [
  { when: "it holds NUL", script: "echo a\0b", message: /NUL/ },
  { when: "it is too long", script: "#".repeat(1024 * 1024), message: /at most 1048576 bytes/ },
];
for (const { when, script, message } of BAD_SCRIPTS) {
  Deno.test(`ClusterSession.run() refuses a script when ${when}`, async () => {
    await using test = await startTestSession();
    await assertFails(() => test.session.run(script), "INVALID_ARGUMENT", message);
  });
}

Deno.test("ClusterSession.run() runs everything when many more calls come than channels", async () => {
  await using test = await startTestSession();
  const results = await Promise.all(
    Array.from({ length: 60 }, (_, index) => test.session.run(`echo ${index}`)),
  );
  assertEquals(
    results.map((result) => text(result.stdout)),
    [...Array(60).keys()].map((i) => `${i}\n`),
  );
  assert(test.server.mostCommandsAtOnce <= MAX_EXEC_CHANNELS, `${test.server.mostCommandsAtOnce}`);
  assertEquals(test.server.connections, 1);
});

for (const maxSessions of [2, 3, 5]) {
  Deno.test(`ClusterSession.run() runs everything when the server allows ${maxSessions} sessions`, async () => {
    await using test = await startTestSession({ faults: { maxSessions } });
    const results = await Promise.all(
      Array.from({ length: 20 }, (_, index) => test.session.run(`echo ${index}`)),
    );
    assertEquals(
      results.map((result) => text(result.stdout)),
      [...Array(20).keys()].map((i) => `${i}\n`),
    );
    assert(test.server.mostCommandsAtOnce < maxSessions);
  });
}

Deno.test("ClusterSession.run() fails when the server allows one session, which sftp has", async () => {
  await using test = await startTestSession({ faults: { maxSessions: 1 } });
  await assertFails(() => test.session.run("true"), "UNAVAILABLE", /MaxSessions of sshd/);
});

Deno.test("ClusterSession.run() fails at once when too many calls wait", async () => {
  await using test = await startTestSession();
  await test.session.connect();
  const stop = new AbortController();
  const running = Array.from(
    { length: MAX_EXEC_CHANNELS + MAX_WAITING_COMMANDS },
    () => test.session.run("sleep 60", { signal: stop.signal }).catch((error) => error.code),
  );
  await assertFails(() => test.session.run("true"), "RESOURCE_EXHAUSTED", /at most 1024 may wait/);
  stop.abort(new Error("enough"));
  assertEquals(new Set(await Promise.all(running)), new Set(["CANCELLED"]));
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
