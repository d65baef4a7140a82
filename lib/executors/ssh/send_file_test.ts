/** Files sent to scripts, by this machine's own OpenSSH client and without it, to a server in this process. */
import { generateKeyPairSync } from "node:crypto";
import { assert, assertEquals, assertMatch } from "@std/assert";
// @ts-types="@types/ssh2"
import type { AuthContext } from "ssh2";
import { createLocalExecutor } from "../local.ts";
import type { ClusterLogin } from "./login.ts";
import { OpenSsh } from "./openssh.ts";
import type { ClusterSession } from "./session.ts";
import { makeHostKey } from "./test_server.ts";
import {
  assertFails,
  everyByte,
  namesIn,
  recordingLogger,
  startTestSession,
  type TestSession,
  type TestSessionOptions,
  text,
  until,
} from "./test_session.ts";

const NEVER = new AbortController().signal;
/** Around the size of a piece. */
const SIZES_BYTES = [0, 1, 524_288, 524_289, 3_000_000];

interface Place {
  test: TestSession;
  session: ClusterSession;
  file: string;
  /** Private keys and passwords, while they are used. */
  secrets: () => Promise<string[]>;
}

interface PlaceOptions extends TestSessionOptions {
  /** Undefined: the session has no client of the node. */
  openSsh?: boolean;
}

function test(
  name: string,
  options: PlaceOptions,
  use: (place: Place) => Promise<void>,
): void {
  Deno.test(`ClusterSession.send() ${name}`, async () => {
    await using test = await startTestSession(options);
    const secretsDirectory = `${test.folder}/secrets`;
    const openSsh = options.openSsh === false ? undefined : await OpenSsh.find({
      executor: createLocalExecutor(),
      secretsDirectory,
      askpassPath: `${test.folder}/askpass`,
      knownHostsPath: test.hostKeys.path,
    }, recordingLogger().logger);
    const login: ClusterLogin = {
      host: "127.0.0.1",
      port: test.server.port,
      user: "user",
      password: "right",
      ...options.login,
    };
    await use({
      test,
      session: test.open(login, { openSsh }),
      file: `${test.folder}/file`,
      secrets: () => namesIn(secretsDirectory),
    });
  });
}

/** A server that takes a password as the answer to a question only. */
function ask(context: AuthContext): void {
  if (context.method !== "keyboard-interactive") return context.reject(["keyboard-interactive"]);
  context.prompt(
    [{ prompt: "Password: ", echo: false }],
    (answers) => answers[0] === "right" ? context.accept() : context.reject(),
  );
}

const byKey = (privateKey: string): PlaceOptions => ({
  login: { privateKey },
  faults: {
    authenticate: (context) =>
      context.method === "publickey" ? context.accept() : context.reject(["publickey"]),
  },
});
const RSA_KEY = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey;
const WAYS: readonly [what: string, options: PlaceOptions][] = [
  ["the session's own connection", { openSsh: false }],
  ["OpenSSH with a password", {}],
  ["OpenSSH with an ed25519 key", byKey(makeHostKey())],
  // Every second number has its first bit set.
  ...Array.from({ length: 4 }, (): [string, PlaceOptions] => [
    "OpenSSH with an ECDSA key",
    byKey(makeHostKey("ecdsa")),
  ]),
  [
    "OpenSSH with an RSA key",
    byKey(RSA_KEY.export({ type: "pkcs8", format: "pem" }).toString()),
  ],
  ["OpenSSH when the server asks for the password interactively", {
    faults: { authenticate: ask },
  }],
  ["OpenSSH behind a login script that talks", { faults: { loginNoise: "Welcome!\n" } }],
];
for (const [what, options] of WAYS) {
  test(`keeps every byte by ${what}`, options, async ({ test, session, file, secrets }) => {
    for (const size of SIZES_BYTES) {
      const bytes = everyByte(size);
      await Deno.writeFile(file, bytes);
      const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
      const { code, stdout, stderr } = await session.send(
        "sha256sum; echo why >&2; exit 3",
        file,
        NEVER,
      );
      assertEquals([code, text(stdout), text(stderr)], [3, `${digest}  -\n`, "why\n"]);
    }
    // OpenSSH's client made one for each file.
    const byOpenSsh = options.openSsh !== false;
    assertEquals(test.server.connections, byOpenSsh ? 1 + SIZES_BYTES.length : 1);
    if (byOpenSsh) assertEquals(await secrets(), []);
  });
}

test("sends over the session when OpenSSH's client is not let in, and tries that once", {
  faults: {
    authenticate: (() => {
      let logins = 0;
      return (context) => {
        if (context.method !== "password") return context.reject(["password"]);
        if (++logins === 1) context.accept();
        else context.reject(["password"]);
      };
    })(),
  },
}, async ({ test, session, file }) => {
  await Deno.writeTextFile(file, "data");
  for (let times = 0; times < 2; times++) {
    assertEquals(text((await session.send("cat", file, NEVER)).stdout), "data");
  }
  assertEquals(test.server.connections, 2);
  const [line = ""] = test.lines.filter((line) => line.includes("more slowly"));
  assertMatch(line, /Permission denied/);
  assert(!test.lines.join("\n").includes("right"), "the password was logged");
});

test("gives the password to one question only", {
  faults: {
    authenticate: (() => {
      let logins = 0;
      return (context) => {
        if (context.method !== "keyboard-interactive") {
          return context.reject(["keyboard-interactive"]);
        }
        if (++logins === 1) return ask(context);
        context.prompt(
          [{ prompt: "Password: ", echo: false }, { prompt: "Code: ", echo: false }],
          (answers) => answers.join() === "right," ? context.accept() : context.reject(),
        );
      };
    })(),
  },
}, async ({ test, session, file }) => {
  await Deno.writeTextFile(file, "data");
  assertEquals(text((await session.send("cat", file, NEVER)).stdout), "data");
  assertEquals(test.server.connections, 2);
  assertEquals(test.lines.filter((line) => line.includes("more slowly")), []);
});

test("cannot tell the outcome when OpenSSH's connection is lost", {}, async (place) => {
  const { test, session, file } = place;
  await Deno.writeTextFile(file, "data");
  await session.connect();
  const sending = assertFails(
    () => session.send(`touch ${file}.begun; sleep 60`, file, NEVER),
    "UNKNOWN",
    /^Cannot tell how a command on user@\S+ ended/,
  );
  await until(() => Deno.stat(`${file}.begun`).then(() => true, () => false));
  test.server.cutAll();
  await sending;
});

test(
  "cannot tell the outcome when OpenSSH's client is killed",
  {},
  async ({ session, file, test }) => {
    const ssh = await standIn(test.folder, 'echo $$ >"$0.pid"; exec "$REAL" "$@"');
    try {
      await Deno.writeTextFile(file, "data");
      const sending = assertFails(
        () => session.send(`touch ${file}.begun; sleep 60`, file, NEVER),
        "UNKNOWN",
        /^Cannot tell how a command on user@\S+ ended/,
      );
      await until(() => Deno.stat(`${file}.begun`).then(() => true, () => false));
      Deno.kill(Number(await Deno.readTextFile(`${ssh.path}.pid`)), "SIGKILL");
      await sending;
    } finally {
      ssh.restore();
    }
  },
);

test("goes by the pinned keys alone, whatever is usual for OpenSSH's client", {}, async (place) => {
  const { session, file, test } = place;
  // What a configuration sets in place of the defaults, the options have to set otherwise.
  const usual = "CheckHostIP yes\nUpdateHostKeys yes\nHashKnownHosts yes\nIdentityAgent /agent\n";
  await Deno.writeTextFile(`${test.folder}/usual`, usual);
  const ssh = await standIn(
    test.folder,
    'shift 2; "$REAL" -G -F "${0%/*}/../usual" "$@" >"$0.used"; exec "$REAL" -F /dev/null "$@"',
  );
  try {
    await Deno.writeTextFile(file, "data");
    assertEquals(text((await session.send("cat", file, NEVER)).stdout), "data");
    const used = (await Deno.readTextFile(`${ssh.path}.used`)).split("\n");
    const wanted = [
      "checkhostip no",
      "updatehostkeys false",
      "identityagent none",
      "stricthostkeychecking true",
      "globalknownhostsfile /dev/null",
      `userknownhostsfile ${test.hostKeys.path}`,
    ];
    assertEquals(wanted.filter((line) => !used.includes(line)), []);
  } finally {
    ssh.restore();
  }
});

/** Puts a script for ssh(1) before the others in PATH, which knows the real one as $REAL, until `restore`. */
async function standIn(
  folder: string,
  script: string,
): Promise<{ path: string; restore: () => void }> {
  const before = Deno.env.get("PATH") ?? "";
  const path = `${folder}/stand-in/ssh`;
  await Deno.mkdir(`${folder}/stand-in`);
  const find = `REAL=$(PATH='${before}' command -v ssh)`;
  await Deno.writeTextFile(path, `#!/bin/sh\n${find}\n${script}\n`, { mode: 0o755 });
  Deno.env.set("PATH", `${folder}/stand-in:${before}`);
  return { path, restore: () => Deno.env.set("PATH", before) };
}

for (const openSsh of [true, false]) {
  const way = openSsh ? "by OpenSSH" : "over the session";
  test(`ends ${way} when it is cancelled`, { openSsh }, async ({ session, file, secrets }) => {
    await Deno.writeTextFile(file, "data");
    const stop = new AbortController();
    const sending = assertFails(
      () => session.send(`touch ${file}.begun; sleep 60`, file, stop.signal),
      "CANCELLED",
      /cancelled.*pod deleted/,
    );
    await until(() => Deno.stat(`${file}.begun`).then(() => true, () => false));
    stop.abort(new Error("pod deleted"));
    await sending;
    if (openSsh) assertEquals(await secrets(), []);
  });

  test(`fails ${way} without the local file`, { openSsh }, async ({ session, file }) => {
    await assertFails(
      () => session.send("cat", file, NEVER),
      "NOT_FOUND",
      /^Cannot send \S+\/file as it/,
    );
  });
}

Deno.test("OpenSsh.find() finds none when ssh(1) would take its paths for something else, or is too old", async () => {
  const { logger, lines } = recordingLogger();
  const old = {
    code: 0,
    stdout: new Uint8Array(),
    stderr: new TextEncoder().encode("OpenSSH_8.3p1"),
  };
  const executor = { run: () => Promise.resolve(old) };
  for (const secretsDirectory of ["/run/a b", "/run/%h", "/run/plain"]) {
    const place = { executor, secretsDirectory, askpassPath: "/a", knownHostsPath: "/k" };
    assertEquals(await OpenSsh.find(place, logger), undefined);
  }
  assertEquals(lines.length, 3);
  assertMatch(lines[2] ?? "", /it must be OpenSSH 8.4 or newer, and is OpenSSH_8.3p1/);
});
