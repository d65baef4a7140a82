/** Cluster sessions against OpenSSH on the lab's login host. */
import { assert, assertEquals } from "@std/assert";
import { createLocalExecutor } from "../../lib/executors/local.ts";
import { HostKeys } from "../../lib/executors/ssh/host_keys.ts";
import type { ClusterLogin } from "../../lib/executors/ssh/login.ts";
import { OpenSsh } from "../../lib/executors/ssh/openssh.ts";
import { ClusterSession, type SessionOptions } from "../../lib/executors/ssh/session.ts";
import { ClusterSessions } from "../../lib/executors/ssh/sessions.ts";
import {
  assertFails,
  assertSameBytes,
  everyByte,
  recordingLogger,
  text,
  until,
} from "../../lib/executors/ssh/test_session.ts";
import { type HostProcess, Lab } from "../../scripts/lab/lab.ts";

const lab = new Lab();
const NEVER = new AbortController().signal;
const { user, password } = lab.login;
/** A folder on the login host for the tests' own servers, and one in the user's home. */
const SERVERS = "/root/ssh-session-test";
const HOME = ".ssh-session-test";
let folder: string;
let hostKeys: HostKeys;

Deno.test.beforeAll(async () => {
  await lab.up();
  folder = await Deno.makeTempDir({ prefix: "multicri-ssh-lab-" });
  hostKeys = new HostKeys(`${folder}/known_hosts`, recordingLogger().logger);
  await onHost(`rm -rf ${SERVERS} && mkdir -m 700 ${SERVERS}`);
  await using session = openSession();
  await session.ok(`rm -rf ${HOME} && mkdir ${HOME}`);
});
Deno.test.afterAll(async () => {
  await using session = openSession();
  await session.ok(`rm -rf ${HOME}`);
  await onHost(`rm -rf ${SERVERS}`);
  await Deno.remove(folder, { recursive: true });
});

/** Runs a script as root on the login host, past ssh. */
async function onHost(script: string): Promise<string> {
  const result = await lab.exec("ctl", ["sh", "-eu", "-c", script]);
  assertEquals(result.code, 0, result.stderr);
  return result.stdout;
}

/** A session that is closed at the end of a test. */
class TestSession extends ClusterSession {
  async ok(script: string): Promise<string> {
    const result = await this.run(script);
    assertEquals(result.code, 0, text(result.stderr));
    return text(result.stdout);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function openSession(
  login: Partial<ClusterLogin> = {},
  options: Partial<SessionOptions> = {},
): TestSession {
  return new TestSession(
    { host: lab.login.host, port: lab.login.port, user, password, ...login },
    { hostKeys, logger: recordingLogger().logger, ...options },
  );
}

/** An sshd of the test's own on the login host, with a host key of its own. */
async function startSshd(port: number, hostKey: string, ...lines: string[]): Promise<HostProcess> {
  const config = [
    `Port ${port}`,
    `HostKey ${SERVERS}/${hostKey}`,
    "PidFile none",
    "UsePAM yes",
    "UseDNS no",
    "PerSourcePenalties no",
    "MaxStartups 200",
    "Subsystem sftp /usr/lib/openssh/sftp-server",
    ...lines,
  ].join("\n");
  await onHost(`
    cat > ${SERVERS}/config-${port} <<'END'\n${config}\nEND
    [ -e ${SERVERS}/${hostKey} ] || ssh-keygen -q -t ed25519 -N '' -f ${SERVERS}/${hostKey}`);
  const sshd = await lab.spawn("ctl", ["/usr/sbin/sshd", "-D", "-f", `${SERVERS}/config-${port}`]);
  await until(() => accepts(port));
  return sshd;
}

async function accepts(port: number): Promise<boolean> {
  try {
    (await Deno.connect({ hostname: lab.login.host, port })).close();
    return true;
  } catch {
    return false;
  }
}

Deno.test("ClusterSession logs in by password when it holds blanks and dollars", async () => {
  await using session = openSession();
  assertEquals(await session.ok("id -un"), `${user}\n`);
});

const KEYS = ["ed25519", "rsa -b 2048", "ecdsa -b 256", "ecdsa -b 384", "ecdsa -b 521"];
for (const kind of KEYS) {
  Deno.test(`ClusterSession logs in by key when ssh-keygen made it by -t ${kind}`, async () => {
    await using maker = openSession();
    const file = `${HOME}/${kind.replaceAll(" ", "")}`;
    await maker.ok(`
      ssh-keygen -q -t ${kind} -N 'pass phrase' -C ssh-session-test -f ${file}
      cat ${file}.pub >> .ssh/authorized_keys`);
    try {
      const privateKey = text(await maker.readFile(file, 10_000));
      const login = { host: lab.login.host, port: 22, user, privateKey, passphrase: "pass phrase" };
      const session = new TestSession(login, { hostKeys, logger: recordingLogger().logger });
      await using _closed = session;
      assertEquals(await session.ok("id -un"), `${user}\n`);
    } finally {
      await maker.ok("sed -i '/ssh-session-test$/d' .ssh/authorized_keys");
    }
  });
}

Deno.test("ClusterSession is refused when the password or the user is wrong", async () => {
  for (const login of [{ password: "hunter2" }, { user: "nobody-here" }]) {
    await using session = openSession(login);
    const error = await assertFails(
      () => session.run("true"),
      "UNAUTHENTICATED",
      /the server refused the password \(it accepts publickey, ?password\)/,
    );
    assert(!error.message.includes("hunter2"));
    assertEquals(session.state.kind, "refused");
  }
});

Deno.test("ClusterSession finds the recorded host key among several when it logs in again", async () => {
  const path = `${folder}/ecdsa_hosts`;
  const key = await onHost("cut -d' ' -f1,2 /etc/ssh/ssh_host_ecdsa_key.pub");
  await Deno.writeTextFile(path, `# by hand\n${lab.login.host} ${key}`);
  const { logger, lines } = recordingLogger();
  await using session = openSession({}, { hostKeys: new HostKeys(path, logger) });
  await session.ok("true");
  assertEquals(lines.filter((line) => line.includes("Recorded")), []);
});

Deno.test("ClusterSession refuses a host whose key has changed, until its line is deleted", async () => {
  const first = await startSshd(2201, "first-key");
  try {
    await using session = openSession({ port: 2201 });
    await session.ok("true");
  } finally {
    await first.kill();
  }
  const second = await startSshd(2201, "second-key");
  try {
    await using session = openSession({ port: 2201 });
    const error = await assertFails(
      () => session.run("true"),
      "FAILED_PRECONDITION",
      /must be ssh-ed25519 SHA256:\S+, recorded at \S+:\d+: the server shows ssh-ed25519 SHA256:/,
    );
    for (const name of ["first-key", "second-key"]) {
      const shown = await onHost(`ssh-keygen -l -f ${SERVERS}/${name}.pub | cut -d' ' -f2`);
      assert(error.message.includes(shown.trim()), error.message);
    }
    const lineNumber = Number(/known_hosts:(\d+)/.exec(error.message)?.[1]);
    const lines = (await Deno.readTextFile(hostKeys.path)).split("\n");
    lines.splice(lineNumber - 1, 1);
    await Deno.writeTextFile(hostKeys.path, lines.join("\n"));
    await session.connect();
    await session.ok("true");
  } finally {
    await second.kill();
  }
});

Deno.test("ClusterSession.run() keeps every byte of input and output", async () => {
  await using session = openSession();
  const bytes = everyByte(3_000_000);
  const result = await session.run("tee /dev/stderr; exit 9", { stdin: bytes });
  assertEquals(result.code, 9);
  assertSameBytes(result.stdout, bytes);
  assertSameBytes(result.stderr, bytes);
});

Deno.test("ClusterSession.run() runs 100 commands at once over one connection", async () => {
  await using session = openSession();
  const results = await Promise.all(
    Array.from({ length: 100 }, (_, index) =>
      session.run(`cat; echo $SSH_CONNECTION >&2`, {
        stdin: new TextEncoder().encode(`input ${index}`),
      })),
  );
  assertEquals(results.map(({ code, stdout }) => [code, text(stdout)]), [
    ...Array.from({ length: 100 }, (_, index) => [0, `input ${index}`]),
  ]);
  assertEquals(new Set(results.map(({ stderr }) => text(stderr))).size, 1);
});

Deno.test("ClusterSession.run() runs everything when the server allows two sessions", async () => {
  const sshd = await startSshd(2202, "narrow-key", "MaxSessions 2");
  try {
    await using session = openSession({ port: 2202 });
    const running = Array.from({ length: 20 }, (_, index) => session.ok(`echo ${index}`));
    const stats = Array.from({ length: 20 }, () => session.stat("/etc/passwd"));
    assertEquals(await Promise.all(running), [...Array(20).keys()].map((index) => `${index}\n`));
    assert((await Promise.all(stats)).every((stat) => stat !== undefined));
  } finally {
    await sshd.kill();
  }
});

Deno.test("ClusterSession.run() gives 128 and the signal when one ends the command", async () => {
  await using session = openSession();
  assertEquals((await session.run("kill -s TERM $$")).code, 143);
  assertEquals((await session.run("exec sh -c 'kill -s SEGV $$'")).code, 139);
});

Deno.test("ClusterSession.run() ends the remote process group when its time is over", async () => {
  await using session = openSession();
  const file = `${HOME}/pids`;
  await assertFails(
    () => session.run(`trap '' TERM; sleep 300 & echo $! $$ > ${file}; wait`, { timeoutMs: 500 }),
    "DEADLINE_EXCEEDED",
    /within 500 ms: its processes were killed/,
  );
  const pids = text(await session.readFile(file, 100)).trim();
  assert(/^\d+ \d+$/.test(pids), pids);
  await until(async () => (await session.run(`kill -s 0 ${pids}`)).code !== 0);
});

Deno.test("ClusterSession tells what may have run, and comes back, when sshd dies", async () => {
  let sshd = await startSshd(2203, "mortal-key");
  try {
    await using session = openSession({ port: 2203 });
    const running = session.run(`echo began > ${HOME}/began; sleep 300`);
    running.catch(() => {});
    await until(async () => await session.stat(`${HOME}/began`) !== undefined);
    await sshd.kill();
    await assertFails(() => running, "UNKNOWN", /Cannot tell how a command .* Lost the connection/);
    await assertFails(() => session.run("true"), "UNAVAILABLE", /the connection was refused/);
    await assertFails(() => session.stat("/"), "UNAVAILABLE", /the connection was refused/);
    sshd = await startSshd(2203, "mortal-key");
    await until(() => session.state.kind === "ready");
    assertEquals(await session.ok(`cat ${HOME}/began`), "began\n");
  } finally {
    await sshd.kill();
  }
});

Deno.test("ClusterSession.send() arrives whole, by OpenSSH's client and without it", async () => {
  const bytes = everyByte(50_000_000);
  await Deno.writeFile(`${folder}/image`, bytes);
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
  const openSsh = await OpenSsh.find({
    executor: createLocalExecutor(),
    secretsDirectory: `${folder}/keys`,
    askpassPath: `${folder}/askpass`,
    knownHostsPath: hostKeys.path,
  }, recordingLogger().logger);
  assert(openSsh !== undefined);
  const { privateKeyPath } = lab.login;
  const privateKey = await Deno.readTextFile(privateKeyPath);
  for (const credentials of [{ password }, { privateKey }]) {
    for (const client of [openSsh, undefined]) {
      const { logger, lines } = recordingLogger();
      await using session = openSession(credentials, { openSsh: client, logger });
      const { code, stdout } = await session.send(
        `tee ${HOME}/image | sha256sum`,
        `${folder}/image`,
        NEVER,
      );
      assertEquals([code, text(stdout)], [0, `${digest}  -\n`]);
      assertSameBytes(await session.readFile(`${HOME}/image`, bytes.length), bytes);
      assertEquals(lines.filter((line) => line.includes("more slowly")), []);
    }
  }
});

Deno.test("ClusterSession.send() goes on when the server asks for new session keys on the way", async () => {
  const sshd = await startSshd(2204, "rekeying-key", "RekeyLimit 2M");
  try {
    await using session = openSession({ port: 2204 });
    const bytes = everyByte(20_000_000);
    await Deno.writeFile(`${folder}/rekeyed`, bytes);
    assertEquals((await session.send(`cat >${HOME}/rekeyed`, `${folder}/rekeyed`, NEVER)).code, 0);
    assertSameBytes(await session.readFile(`${HOME}/rekeyed`, bytes.length), bytes);
    assertSameBytes(
      (await session.run(`cat ${HOME}/rekeyed`, { maxOutputBytes: 1e8 })).stdout,
      bytes,
    );
  } finally {
    await sshd.kill();
  }
});

Deno.test("ClusterSession fails with a sentence when the user may not", async () => {
  await using session = openSession();
  await assertFails(
    () => session.readFile("/etc/shadow", 1_000),
    "PERMISSION_DENIED",
    /^Cannot open \/etc\/shadow on \S+ as the user must be allowed to/,
  );
});

Deno.test("ClusterSession.run() is exact when login scripts print and the login shell is any", async (t) => {
  for (
    const shell of ["/bin/bash", "/bin/dash", "/usr/bin/tcsh", "/usr/bin/fish", "/usr/bin/zsh"]
  ) {
    const name = `ssh-${shell.split("/").at(-1)}`;
    const there = await lab.exec("ctl", ["test", "-x", shell]);
    await t.step({
      name: shell,
      ignore: there.code !== 0,
      fn: async () => {
        await onHost(`
          useradd --create-home --shell ${shell} ${name}
          printf '%s' '${name}:pw' | chpasswd
          cd /home/${name} && mkdir -p .config/fish
          for file in .bashrc .tcshrc .zshenv .config/fish/config.fish
          do echo 'echo "Welcome to $USER"' > $file; done`);
        try {
          await using session = openSession({ user: name, password: "pw" });
          const bytes = everyByte(100_000);
          const result = await session.run(`cat; printf '%s' '!x \\\\ "$HOME"' >&2; exit 7`, {
            stdin: bytes,
          });
          assertEquals([result.code, text(result.stderr)], [7, '!x \\\\ "$HOME"']);
          assertSameBytes(result.stdout, bytes);
        } finally {
          await onHost(`userdel --remove ${name} 2> /dev/null`);
        }
      },
    });
  }
});

Deno.test("ClusterSessions shares one connection among users with the same credentials", async () => {
  const sessions = new ClusterSessions({ hostKeys, logger: recordingLogger().logger });
  try {
    const login = { host: lab.login.host, port: lab.login.port, user, password };
    const connections = await Promise.all(
      [login, { ...login }, { ...login, password, passphrase: "another" }].map(async (each) => {
        const result = await sessions.acquire(each).run("echo $SSH_CONNECTION");
        return text(result.stdout);
      }),
    );
    assertEquals(new Set(connections).size, 2);
    assertEquals(connections[0], connections[1]);
  } finally {
    await sessions.closeAll();
  }
});
