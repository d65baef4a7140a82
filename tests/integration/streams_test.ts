/** Exec, Attach and PortForward on the real lab: by crictl, and by a client of ours where bytes and sizes matter. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { concat } from "@std/bytes/concat";
import { delay } from "@std/async/delay";
import { Lab } from "../../scripts/lab/lab.ts";
import { type ClientStream, SpdyClient } from "../../lib/streaming/test_spdy_client.ts";
import { CriClient } from "../cri_client.ts";
import { Harness, type JobSpec } from "./harness.ts";

let harness: Harness;
Deno.test.beforeAll(async () => {
  // The test's own client comes from outside the node.
  const address = new Lab().address("knode");
  harness = await Harness.start({ name: "streams", flags: ["--stream-addr", address] });
});
Deno.test.afterAll(() => harness?.stop());

const NODES = ["n1", "n2"] as const;
const sh = (script: string) => ["/bin/sh", "-c", script];

/** A running container, removed afterwards; nothing of it may be left. */
async function withContainer(
  spec: JobSpec,
  use: (container: string, pod: string) => Promise<void>,
): Promise<void> {
  const made = await harness.run({ command: sh("sleep 600"), ...spec });
  await harness.running(made.container);
  await use(made.container, made.pod);
  await harness.removeCleanly(made);
}

const on = (node: string) => ({ cluster: { JOB_CUSTOM_CONFIG: `#SBATCH --nodelist=${node}` } });

/** Command lines of the user's processes on both nodes that hold `words`. */
async function processesWith(words: string): Promise<string[]> {
  const lists = await Promise.all(
    NODES.map((node) =>
      harness.lab.exec(node, ["ps", "-u", harness.lab.login.user, "-o", "args="])
    ),
  );
  return lists.flatMap(({ stdout }) => stdout.split("\n")).filter((line) => line.includes(words));
}

interface Session {
  client: SpdyClient;
  stdin: ClientStream;
  stdout: ClientStream;
  error: ClientStream;
  /** With a terminal only. */
  resize?: ClientStream;
}

/** Asks for Exec or Attach with stdin and stdout, and goes to the URL. */
async function connect(
  rpc: "exec" | "attach",
  request: { containerId: string; cmd?: string[]; tty?: boolean },
): Promise<Session> {
  const cri = new CriClient(harness.lab.path("knode", harness.server.socketPath));
  const { url } = await cri.call(rpc, { ...request, stdin: true, stdout: true })
    .finally(() => cri.close());
  const client = await SpdyClient.connect(url, ["v4.channel.k8s.io"]);
  const error = await client.open({ streamType: "error" });
  const stdin = await client.open({ streamType: "stdin" });
  const stdout = await client.open({ streamType: "stdout" });
  const resize = request.tty ? await client.open({ streamType: "resize" }) : undefined;
  return { client, error, stdin, stdout, ...(resize === undefined ? {} : { resize }) };
}

/** Waits until a stream has given text that matches, and returns all of it. */
async function shows(stream: ClientStream, pattern: RegExp): Promise<string> {
  for (;;) {
    const text = new TextDecoder().decode(concat(stream.pieces));
    if (pattern.test(text)) return text;
    await delay(20);
  }
}

for (const node of NODES) {
  Deno.test(`crictl exec shows output and exit code when the job runs on ${node}`, () =>
    withContainer(on(node), async (container) => {
      for (const transport of ["spdy", "websocket"]) {
        const exec = (...words: string[]) =>
          harness.server.crictl(["exec", "--transport", transport, container, ...words]);
        const fine = await exec("sh", "-c", "echo out; echo err >&2; pwd");
        assertEquals([fine.code, fine.stdout, fine.stderr], [0, "out\n/\n", "err\n"]);
        assertMatch((await exec("sh", "-c", "exit 7")).stderr, /exit code 7/);
        assertMatch((await exec("sh", "-c", "kill -9 $$")).stderr, /exit code 137/);
        assertMatch((await exec("no-such")).stderr, /no-such.*is not in PATH/);
      }
    }));

  Deno.test(`crictl port-forward reaches a port of a job on ${node}`, () =>
    withContainer(
      { ...on(node), command: sh("while :; do echo answer | nc -l -p 8123; done") },
      async (_container, pod) => {
        const crictl = harness.server.crictlArgv(["port-forward", pod, "18123:8123"]);
        const script = `"$@" >/dev/null & forward=$!
for turn in 1 2 3; do
  until exec 3<>/dev/tcp/127.0.0.1/18123; do sleep 0.2; done 2>/dev/null
  cat <&3
  exec 3>&-
done
kill "$forward"`;
        const { stdout } = await harness.lab.exec("knode", [
          "bash",
          "-c",
          script,
          "bash",
          ...crictl,
        ]);
        assertEquals(stdout, "answer\nanswer\nanswer\n");
      },
    ));
}

Deno.test("a command gets every byte of stdin and its client every byte of the output", () =>
  withContainer({}, async (containerId) => {
    const session = await connect("exec", { containerId, cmd: ["cat"] });
    const sent = crypto.getRandomValues(new Uint8Array(65_536));
    const times = 64;
    for (let turn = 0; turn < times; turn++) await session.stdin.write(sent);
    await session.stdin.end();
    assertEquals(await session.stdout.ended, "fin");
    const came: Uint8Array = concat(session.stdout.pieces);
    assertEquals(came.length, sent.length * times);
    assert(came.every((byte, at) => byte === sent[at % sent.length]));
    assertEquals(JSON.parse(await session.error.text()).status, "Success");
  }));

Deno.test("a command that reads nothing is killed when its client goes in the middle of its input", () =>
  withContainer({}, async (containerId) => {
    const session = await connect("exec", { containerId, cmd: sh("echo on; sleep 7011; :") });
    await shows(session.stdout, /on/);
    for (let turn = 0; turn < 10; turn++) await session.stdin.write(new Uint8Array(20_000));
    session.client.transport.destroy();
    while ((await processesWith("7011")).length > 0) await delay(100);
  }));

Deno.test("a slow client loses nothing of what a command wrote before its end", () =>
  withContainer({}, async (containerId) => {
    const session = await connect("exec", { containerId, cmd: sh("head -c 8000000 /dev/zero") });
    session.client.transport.pause();
    await delay(4_000);
    session.client.transport.resume();
    await session.stdout.ended;
    assertEquals(concat(session.stdout.pieces).length, 8_000_000);
    const end = await session.error.text();
    assertEquals(JSON.parse(end).status, "Success", end);
  }));

Deno.test("a command on a terminal follows its size, takes signals, and tells its exit code", () =>
  withContainer({}, async (containerId) => {
    const session = await connect("exec", { containerId, cmd: ["sh"], tty: true });
    const { stdin, stdout, resize, error } = session;
    await resize?.write('{"Width":101,"Height":33}');
    await stdin.write("tty; echo $TERM; stty size\n");
    await shows(stdout, /\/dev\/pts\/\d+\r\nxterm\r\n33 101\r\n/);
    await resize?.write('{"Width":77,"Height":22}');
    while (!/22 77/.test(new TextDecoder().decode(concat(stdout.pieces)))) {
      await stdin.write("stty size\n");
      await delay(100);
    }
    await stdin.write("sleep 7012\n");
    while ((await processesWith("sleep 7012")).length === 0) await delay(50);
    await stdin.write("\x03");
    while ((await processesWith("sleep 7012")).length > 0) await delay(50);
    await stdin.write("exit 6\n");
    const { details } = JSON.parse(await error.text());
    assertEquals(details.causes, [{ reason: "ExitCode", message: "6" }]);
  }));

Deno.test("a client that attaches sees what comes from then on, and ends stdin for good", () =>
  withContainer(
    {
      command: sh("echo before; sha256sum; echo after >&2; sleep 600"),
      stdin: true,
      stdinOnce: true,
    },
    async (containerId) => {
      await harness.until(
        containerId,
        "logging",
        async () => (await harness.logs(containerId)).stdout.length === 1,
      );
      const session = await connect("attach", { containerId });
      await session.stdin.write("some ");
      await session.stdin.write("words");
      await session.stdin.end();
      const bytes = new TextEncoder().encode("some words");
      const sum = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
      assertEquals(await shows(session.stdout, /\n/), `${sum}  -\n`);
      session.client.transport.destroy();
      // Nobody is attached any more, and the program runs on.
      assertEquals((await harness.inspect(containerId)).status.state, "CONTAINER_RUNNING");
      const again = await connect("attach", { containerId });
      await again.stdin.write("too late");
      again.client.transport.destroy();
    },
  ));

Deno.test("a program on a terminal can be attached to, one client after the other", () =>
  withContainer(
    {
      command: sh(
        'while read line; do echo "got $line"; stty size; [ "$line" = bye ] && exit 9; done',
      ),
      stdin: true,
      tty: true,
    },
    async (containerId) => {
      for (const word of ["one", "two"]) {
        const { client, stdin, stdout, resize } = await connect("attach", {
          containerId,
          tty: true,
        });
        await resize?.write('{"Width":90,"Height":30}');
        await stdin.write(`${word}\n`);
        await shows(stdout, RegExp(`${word}\r\ngot ${word}\r\n30 90\r\n`));
        client.transport.destroy();
      }
      const last = await connect("attach", { containerId, tty: true });
      await last.stdin.write("bye\n");
      assertEquals(JSON.parse(await last.error.text()).status, "Success");
      assertEquals((await harness.exited(containerId)).status.exitCode, 9);
      assertEquals((await harness.logs(containerId)).stdout.at(-1), "30 90");
    },
  ));

Deno.test("while a job pends streams are refused at once", async () => {
  const made = await harness.run({
    cluster: { JOB_CUSTOM_CONFIG: "#SBATCH --hold" },
    command: ["true"],
  });
  const exec = await harness.server.crictl(["exec", made.container, "true"]);
  const attach = await harness.server.crictl(["attach", made.container]);
  const forward = await harness.server.crictl(["port-forward", made.pod, "18124:80"]);
  for (const { code, stderr } of [exec, attach, forward]) {
    assertEquals(code, 1);
    assertMatch(stderr, /Unavailable.*its job \d+ waits/);
  }
  await harness.removeCleanly(made);
});

Deno.test("40 commands at once all end, and calls that control jobs are not held up", () =>
  withContainer({}, async (container) => {
    const running = Array.from(
      { length: 40 },
      (_, index) => harness.server.crictl(["exec", container, ...sh(`sleep 0.2; echo ${index}`)]),
    );
    const other = await harness.run({ command: ["true"] });
    const outcomes = await Promise.all(running);
    assertEquals(
      outcomes.map(({ code, stdout }) => [code, stdout]),
      Array.from({ length: 40 }, (_, index) => [0, `${index}\n`]),
    );
    await harness.exited(other.container);
    await harness.removeCleanly(other);
    while ((await processesWith("perl")).length > 0) await delay(100);
  }));
