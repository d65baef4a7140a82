import { delay } from "@std/async/delay";
import { assert, assertEquals } from "@std/assert";
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

Deno.test("ClusterSession.run() resolves when the last piece of stdout was taken", async () => {
  await using test = await startTestSession();
  let taken = "";
  // The second piece and the end come while the first is being taken.
  await test.session.run("printf one; sleep 0.1; printf two", {
    onStdout: (piece) => delay(400).then(() => void (taken += text(piece))),
  });
  assertEquals(taken, "onetwo");
});

Deno.test("ClusterSession.run() keeps script and input out of argv when it runs", async () => {
  await using test = await startTestSession();
  const result = await test.session.run(
    `secret=hunter2; tr '\\0' ' ' < /proc/$$/cmdline; cat > /dev/null`,
    { stdin: new TextEncoder().encode("swordfish") },
  );
  assertEquals(
    text(result.stdout).trim(),
    `/bin/sh -c IFS= read -r s && eval "$(printf %b "$s")"`,
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

Deno.test("ClusterSession.run() hands on stdout piece by piece when onStdout is given", async () => {
  await using test = await startTestSession({ faults: { loginNoise: "Welcome" } });
  const pieces: Uint8Array[] = [];
  const bytes = everyByte(300_000);
  const result = await test.session.run("cat; echo end >&2", {
    stdin: bytes,
    maxOutputBytes: 100,
    onStdout: (piece) => void pieces.push(piece.slice()),
  });
  assertEquals([result.code, result.stdout.length, text(result.stderr)], [0, 0, "end\n"]);
  assertEquals(pieces.map((piece) => [...piece]).flat(), [...bytes]);
});

Deno.test("ClusterSession.run() lets the other side wait until onStdout has taken a piece", async () => {
  await using test = await startTestSession();
  const gate = Promise.withResolvers<void>();
  let [pieces, bytes] = [0, 0];
  const running = test.session.run("head -c 50000000 /dev/zero; exit 5", {
    onStdout: (piece) => {
      pieces++;
      bytes += piece.length;
      return gate.promise;
    },
  });
  // Another command, which goes all the way, shows that it is only this one that waits.
  await until(() => pieces > 0);
  await test.session.run("sleep 0.2");
  assertEquals(pieces, 1);
  gate.resolve();
  assertEquals([(await running).code, bytes], [5, 50_000_000]);
});

Deno.test("ClusterSession.run() fails alone, when what onStdout gave rejects", async () => {
  await using test = await startTestSession();
  await assertFails(
    () =>
      test.session.run("echo a; sleep 60", {
        onStdout: () => Promise.reject(new Error("nobody takes it")),
      }),
    "INTERNAL",
    /nobody takes it/,
  );
  assertEquals((await test.session.run("exit 3")).code, 3);
});

Deno.test("ClusterSession.run() fails alone, its connection living on, when onStdout throws", async () => {
  await using test = await startTestSession();
  await assertFails(
    () =>
      test.session.run("echo a; sleep 60", {
        onStdout: () => {
          throw new Error("no room for it");
        },
      }),
    "INTERNAL",
    /^no room for it: its processes were killed$/,
  );
  assertEquals((await test.session.run("exit 4")).code, 4);
  assertEquals(test.server.connections, 1);
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
