/**
 * client-go, of which kubectl and crictl are made, against the streaming server, with programs of this machine
 * behind it. MULTICRI_LONG=1 makes it 20,000 sessions in place of 2,000.
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { assert, assertEquals } from "@std/assert";
import { writeStdoutLine } from "../../lib/base/log.ts";
import type { CommandRunner, StreamsWanted } from "../../lib/streaming/process.ts";
import type { StreamingServer } from "../../lib/streaming/server.ts";
import { SpdyClient } from "../../lib/streaming/test_spdy_client.ts";
import { echoPort, withServer } from "../../lib/streaming/test_streaming.ts";
import { ensureStreamClient } from "./stream_client.ts";

const SESSIONS = Deno.env.get("MULTICRI_LONG") === "1" ? 20_000 : 2_000;
const TRANSPORTS = ["spdy", "websocket"] as const;
const ALL: StreamsWanted = { stdin: true, stdout: true, stderr: true, tty: false };
const BIG_BYTES = 64 * 1024 * 1024;

let program: string;
Deno.test.beforeAll(async () => {
  program = await ensureStreamClient();
});

/** Sends back what comes, and ends with 7, as the client expects. */
const echo: CommandRunner = async ({ stdin, stdout }) => {
  for await (const piece of stdin) await stdout(piece);
  return 7;
};

/** Runs the client with a URL for each session, given when the last ones have ended; its lines. */
async function drive(args: string[], sessions: number, url: () => string): Promise<string[]> {
  const child = new Deno.Command(program, {
    args,
    stdin: "piped",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const stdin = child.stdin.getWriter();
  const lines: string[] = [];
  let text = "";
  let given = 0;
  const give = async () => {
    if (given++ < sessions) await stdin.write(new TextEncoder().encode(`${url()}\n`));
    else if (given > sessions && lines.length >= sessions) await stdin.close();
  };
  for (let at = 0; at < Math.min(sessions, 20); at++) await give();
  for await (const piece of child.stdout) {
    text += new TextDecoder().decode(piece);
    const whole = text.split("\n");
    text = whole.pop() ?? "";
    for (const line of whole) {
      lines.push(line);
      await give();
    }
  }
  assertEquals((await child.status).code, 0);
  return lines;
}

const execUrl = (server: StreamingServer) => () => server.execUrl(ALL, echo);

for (const transport of TRANSPORTS) {
  Deno.test(`client-go gets 64 MiB back, byte for byte, by ${transport}`, () =>
    withServer(async (server) => {
      const began = performance.now();
      const lines = await drive(["exec", transport, String(BIG_BYTES), "1"], 1, execUrl(server));
      const rate = BIG_BYTES / 1024 / 1024 / ((performance.now() - began) / 1000);
      writeStdoutLine(`${transport}: ${rate.toFixed(0)} MiB/s each way at once`);
      assertEquals(lines, ["ok"]);
    }));

  Deno.test(`client-go opens ${SESSIONS} sessions by ${transport}, and nothing is left of them`, () =>
    withServer(async (server) => {
      const args = ["exec", transport, "1000", "10"];
      await drive(args, 100, execUrl(server));
      const before = await held();
      const lines = await drive(args, SESSIONS, execUrl(server));
      const after = await held();
      assertEquals([lines.length, lines.filter((line) => line !== "ok")], [SESSIONS, []]);
      const seen = JSON.stringify({ before, after });
      writeStdoutLine(`${transport}: ${seen}`);
      assert(after.files <= before.files + 2, seen);
      // What a session kept would be a KiB at least.
      assert(after.heapBytes - before.heapBytes < 256 * SESSIONS, seen);
    }));

  Deno.test(`client-go forwards a port, one connection after the other and many at once, by ${transport}`, () =>
    withServer(async (server) => {
      await using port = echoPort();
      const args = ["forward", transport, "3000000", String(port.number)];
      assertEquals(await drive(args, 1, () => server.portForwardUrl(port.forward)), ["ok"]);
    }));
}

Deno.test("client-go's session goes on beside 600 that send nonsense", () =>
  withServer(async (server) => {
    const seed = Number(Deno.env.get("MULTICRI_TEST_SEED") ?? Date.now() % 2 ** 31);
    writeStdoutLine(`nonsense: MULTICRI_TEST_SEED=${seed}`);
    const random = randomBytes(seed);
    const good = drive(["exec", "spdy", String(BIG_BYTES), "1"], 1, execUrl(server));
    for (let turn = 0; turn < 600; turn++) {
      await using client = await SpdyClient.connect(server.execUrl(ALL, echo), [
        "v4.channel.k8s.io",
      ]);
      if (turn % 2 === 0) await client.open({ streamType: "error" });
      // Control frames of the right version, or anything at all.
      if (turn % 3 === 0) await client.send(Uint8Array.of(0x80, 3, 0, turn % 11, 0, 0, 0, 20));
      await client.send(random(turn));
    }
    assertEquals(await good, ["ok"]);
  }));

Deno.test("20 clients that do not read cost no memory", () =>
  withServer(async (server) => {
    const endless: CommandRunner = async ({ stdout }, signal) => {
      const piece = new Uint8Array(65_536);
      while (!signal.aborted) await stdout(piece);
      return 0;
    };
    const before = Deno.memoryUsage().rss;
    await using clients = new AsyncDisposableStack();
    for (let index = 0; index < 20; index++) {
      const url = server.execUrl(ALL, endless);
      const client = clients.use(await SpdyClient.connect(url, ["v4.channel.k8s.io"]));
      for (const streamType of ["error", "stdin", "stdout", "stderr"]) {
        await client.open({ streamType });
      }
      client.transport.pause();
    }
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    const grown = Deno.memoryUsage().rss - before;
    assert(grown < 64 * 1024 * 1024, `${grown} bytes more`);
  }));

/** What this process holds once everything that nobody needs is gone. */
async function held(): Promise<{ files: number; heapBytes: number }> {
  setFlagsFromString("--expose_gc");
  const collect = runInNewContext("gc");
  // What the last connections leave is let go of a moment later.
  await new Promise((resolve) => setTimeout(resolve, 500));
  collect();
  const files = (await Array.fromAsync(Deno.readDir("/proc/self/fd"))).length;
  const { heapUsed, external } = Deno.memoryUsage();
  return { files, heapBytes: heapUsed + external };
}

/** Pseudo-random bytes (mulberry32). */
function randomBytes(seed: number): (length: number) => Uint8Array {
  let state = seed;
  const next = () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return (mixed ^ (mixed >>> 14)) >>> 24;
  };
  return (length) => Uint8Array.from({ length }, next);
}
