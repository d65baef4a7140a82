/** Exec, attach and port-forward by SPDY/3.1, with programs of this machine behind the streaming server. */
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { concat } from "@std/bytes/concat";
import { CriError } from "../base/error.ts";
import type { CommandRunner, StreamsWanted } from "./process.ts";
import { CONTROL, controlFrame, RESET } from "./spdy_frames.ts";
import { type ClientStream, SpdyClient } from "./test_spdy_client.ts";
import { echoPort, runProgram, withServer } from "./test_streaming.ts";

const V4 = ["v5.channel.k8s.io", "v4.channel.k8s.io", "v3.channel.k8s.io"];
const ALL: StreamsWanted = { stdin: true, stdout: true, stderr: true, tty: false };
const TTY: StreamsWanted = { stdin: true, stdout: true, stderr: false, tty: true };

type Streams = Record<"error" | "stdin" | "stdout" | "stderr" | "resize", ClientStream>;

/** Opens the streams that client-go opens, in its order. */
async function openStreams(client: SpdyClient, wanted: StreamsWanted): Promise<Streams> {
  const streams: Partial<Streams> = { error: await client.open({ streamType: "error" }) };
  if (wanted.stdin) streams.stdin = await client.open({ streamType: "stdin" });
  if (wanted.stdout) streams.stdout = await client.open({ streamType: "stdout" });
  if (wanted.stderr) streams.stderr = await client.open({ streamType: "stderr" });
  if (wanted.tty) streams.resize = await client.open({ streamType: "resize" });
  return streams as Streams;
}

async function withCommand(
  run: CommandRunner,
  wanted: StreamsWanted,
  use: (streams: Streams, client: SpdyClient) => Promise<void>,
  protocols = V4,
): Promise<void> {
  await withServer(async (server) => {
    await using client = await SpdyClient.connect(server.execUrl(wanted, run), protocols);
    await use(await openStreams(client, wanted), client);
  });
}

Deno.test("StreamingServer gives stdout and stderr apart, and the exit code, when it is asked by SPDY", () =>
  withCommand(
    runProgram("sh", "-c", "echo out; echo err >&2; exit 7"),
    ALL,
    async (streams, client) => {
      assertEquals(await streams.stdout.text(), "out\n");
      assertEquals(await streams.stderr.text(), "err\n");
      const status = JSON.parse(await streams.error.text());
      assertEquals([status.status, status.reason], ["Failure", "NonZeroExitCode"]);
      assertEquals(status.details.causes, [{ reason: "ExitCode", message: "7" }]);
      await client.closed;
    },
  ));

Deno.test("StreamingServer says Success when the command ends with 0", () =>
  withCommand(runProgram("true"), ALL, async (streams) => {
    assertEquals(JSON.parse(await streams.error.text()), { metadata: {}, status: "Success" });
  }));

Deno.test("StreamingServer passes every byte both ways and a half-closed stdin", () =>
  withCommand(runProgram("cat"), ALL, async (streams) => {
    const sent = crypto.getRandomValues(new Uint8Array(65_536));
    const times = 256;
    for (let turn = 0; turn < times; turn++) await streams.stdin.write(sent);
    await streams.stdin.end();
    assertEquals(await streams.stdout.ended, "fin");
    const came: Uint8Array = concat(streams.stdout.pieces);
    assertEquals(came.length, sent.length * times);
    assert(came.every((byte, at) => byte === sent[at % sent.length]));
  }));

Deno.test("StreamingServer passes the sizes of a terminal", () => {
  const run: CommandRunner = async ({ resizes, stdout }) => {
    for await (const { width, height } of resizes) {
      await stdout(new TextEncoder().encode(`${width}x${height} `));
      if (height === 9) break;
    }
    return 0;
  };
  return withCommand(run, TTY, async (streams) => {
    await streams.resize.write('{"Width":80,"Hei');
    await streams.resize.write('ght":24}\n{"Width":0,"Height":0}\n');
    while (streams.stdout.pieces.length === 0) await new Promise((done) => setTimeout(done, 5));
    await streams.resize.write('nonsense}{"Width":100,"Height":9}');
    assertEquals(await streams.stdout.text(), "80x24 100x9 ");
  });
});

Deno.test("StreamingServer tells a failure in plain words and success by nothing to old clients", async () => {
  const fails: CommandRunner = () => Promise.reject(new CriError("UNAVAILABLE", "It pends."));
  for (const protocol of ["v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"]) {
    await withCommand(fails, ALL, async (streams) => {
      assertEquals(await streams.error.text(), "It pends.");
    }, [protocol]);
    await withCommand(runProgram("true"), ALL, async (streams) => {
      assertEquals(await streams.error.text(), "");
    }, [protocol]);
  }
});

Deno.test("StreamingServer tells why a command could not be run", () =>
  withCommand(
    () => Promise.reject(new CriError("UNAVAILABLE", "It pends.")),
    ALL,
    async (streams) => {
      const status = JSON.parse(await streams.error.text());
      assertEquals([status.status, status.message, status.code], ["Failure", "It pends.", 503]);
    },
  ));

Deno.test("StreamingServer aborts the command when its client goes", async () => {
  const aborted = Promise.withResolvers<void>();
  const run: CommandRunner = async (_streams, signal) => {
    signal.addEventListener("abort", () => aborted.resolve());
    await aborted.promise;
    return 0;
  };
  await withCommand(run, ALL, async (_streams, client) => {
    client.transport.destroy();
    await aborted.promise;
  });
});

Deno.test("StreamingServer lets the command wait when its client does not read", async () => {
  let taken = 0;
  const stuck = Promise.withResolvers<void>();
  const run: CommandRunner = async ({ stdout }, signal) => {
    const piece = new Uint8Array(65_536);
    const timer = setInterval(() => {
      if (taken === before) stuck.resolve();
      before = taken;
    }, 200);
    let before = -1;
    try {
      while (!signal.aborted) {
        await stdout(piece);
        taken += piece.length;
      }
    } finally {
      clearInterval(timer);
    }
    return 0;
  };
  await withCommand(run, ALL, async (_streams, client) => {
    client.transport.pause();
    await stuck.promise;
    // What fits into the buffers of two sockets, and no more.
    assert(taken < 32 * 1024 * 1024, String(taken));
  });
});

Deno.test("StreamingServer answers pings and refuses streams that it has no use for", () =>
  withCommand(runProgram("sleep", "600"), ALL, async (_streams, client) => {
    const other = await client.open({ streamType: "resize" });
    assertEquals(await other.ended, "reset");
    const ping = Uint8Array.of(0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 5);
    await client.send(ping);
    while (client.pongs.length === 0) await new Promise((done) => setTimeout(done, 5));
    assertEquals(client.pongs, [5]);
  }));

const MALFORMED: [what: string, bytes: number[]][] = [
  ["another version", [0x80, 2, 0, 1, 0, 0, 0, 0]],
  ["a control frame of 16 MiB", [0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff]],
  ["a SYN_STREAM without fields", [0x80, 3, 0, 1, 0, 0, 0, 0]],
  ["an even stream id", [0x80, 3, 0, 1, 0, 0, 0, 10, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0]],
  [
    "headers that are not zlib",
    [0x80, 3, 0, 1, 0, 0, 0, 14, 0, 0, 0, 99, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4],
  ],
];
for (const [what, bytes] of MALFORMED) {
  Deno.test(`StreamingServer ends a session, and no other, that sends ${what}`, () =>
    withServer(async (server) => {
      const waits = runProgram("cat");
      await using good = await SpdyClient.connect(server.execUrl(ALL, waits), V4);
      await using bad = await SpdyClient.connect(server.execUrl(ALL, waits), V4);
      const streams = await openStreams(good, ALL);
      await openStreams(bad, ALL);
      await bad.send(Uint8Array.from(bytes));
      await bad.closed;
      await streams.stdin.write("still here");
      await streams.stdin.end();
      assertEquals(await streams.stdout.text(), "still here");
    }));
}

Deno.test("StreamingServer ends a session whose client does not open its streams", () =>
  withServer(async (server) => {
    const url = server.execUrl(ALL, () => Promise.reject(new Error("it must not run")));
    await using client = await SpdyClient.connect(url, V4);
    await client.open({ streamType: "error" });
    await client.closed;
  }, { creationMs: 50 }));

Deno.test("StreamingServer ends a session that is idle", () =>
  withServer(async (server) => {
    await using client = await SpdyClient.connect(server.execUrl(ALL, runProgram("cat")), V4);
    await openStreams(client, ALL);
    await client.closed;
  }, { idleMs: 50 }));

Deno.test("StreamingServer connects to ports, many at once, and half-closes both ways", () =>
  withServer(async (server) => {
    await using port = echoPort();
    await using client = await SpdyClient.connect(server.portForwardUrl(port.forward), [
      "portforward.k8s.io",
    ]);
    await Promise.all(Array.from({ length: 50 }, async (_, index) => {
      const headers = { port: String(port.number), requestID: String(index) };
      const error = await client.open({ ...headers, streamType: "error" });
      await error.end();
      const data = await client.open({ ...headers, streamType: "data" });
      await data.write(`hello ${index}`);
      await data.end();
      assertEquals([await data.text(), await error.text()], [`hello ${index}`, ""]);
    }));
  }));

Deno.test("StreamingServer says nothing when a client resets its connection to a port", () =>
  withServer(async (server) => {
    await using port = echoPort();
    await using client = await SpdyClient.connect(server.portForwardUrl(port.forward), [
      "portforward.k8s.io",
    ]);
    const headers = { port: String(port.number), requestID: "1" };
    const error = await client.open({ ...headers, streamType: "error" });
    const data = await client.open({ ...headers, streamType: "data" });
    await data.write("x");
    while (data.pieces.length === 0) await new Promise((done) => setTimeout(done, 5));
    await client.send(controlFrame(CONTROL.RST_STREAM, [data.id, RESET.CANCEL]));
    assertEquals([await error.ended, await error.text()], ["fin", ""]);
  }));

Deno.test("StreamingServer says on the error stream why a port cannot be reached, and goes on", () =>
  withServer(async (server) => {
    await using port = echoPort();
    await using client = await SpdyClient.connect(server.portForwardUrl(port.forward), [
      "portforward.k8s.io",
    ]);
    const bad = { port: "1", requestID: "0" };
    const error = await client.open({ ...bad, streamType: "error" });
    const data = await client.open({ ...bad, streamType: "data" });
    assertMatch(await error.text(), /ECONNREFUSED/);
    assertEquals(await data.ended, "reset");
    const good = { port: String(port.number), requestID: "1" };
    await client.open({ ...good, streamType: "error" });
    const echo = await client.open({ ...good, streamType: "data" });
    await echo.write("again");
    await echo.end();
    assertEquals(await echo.text(), "again");
    const nowhere = await client.open({ port: "70000", requestID: "2", streamType: "error" });
    assertEquals(await nowhere.ended, "reset");
  }));

Deno.test("StreamingServer serves a URL once, for its own kind, and by a protocol that it knows", () =>
  withServer(async (server) => {
    const url = server.execUrl(ALL, runProgram("true"));
    const refused = (url: string, protocols: string[], says: string) =>
      assertRejects(() => SpdyClient.connect(url, protocols), Error, says);
    await refused(url, ["v9.channel.k8s.io"], "403");
    await refused(url.replace("/exec/", "/attach/"), V4, "404");
    await refused(`${url}x`, V4, "404");
    {
      await using _client = await SpdyClient.connect(url, V4);
    }
    await refused(url, V4, "404");
    const plain = await fetch(server.execUrl(ALL, runProgram("true")));
    assertEquals(plain.status, 400);
    assertMatch(await plain.text(), /takes SPDY\/3.1 or WebSocket/);
  }));
