/** Exec and port-forward by WebSocket, with programs of this machine behind the streaming server. */
import { assertEquals } from "@std/assert";
import { concat } from "@std/bytes/concat";
// @ts-types="@types/ws"
import { WebSocket } from "ws";
import type { CommandRunner, StreamsWanted } from "./process.ts";
import { echoPort, runProgram, withServer } from "./test_streaming.ts";

const V5 = "v5.channel.k8s.io";
const ALL: StreamsWanted = { stdin: true, stdout: true, stderr: true, tty: false };

/** What a client sends and gets, by channel. */
class ChannelClient {
  readonly #pieces: Uint8Array[][] = [[], [], [], [], []];
  readonly opened: Promise<void>;
  /** Resolves with the code that the server closed with. */
  readonly closed: Promise<number>;

  constructor(readonly socket: WebSocket) {
    this.opened = new Promise((resolve, reject) => {
      socket.once("open", resolve);
      socket.once("error", reject);
    });
    this.closed = new Promise((resolve) => socket.once("close", resolve));
    socket.on("message", (data: Uint8Array) => this.#pieces[data[0] ?? 0]?.push(data.slice(1)));
  }

  send(channel: number, payload: string | Uint8Array): void {
    const bytes = typeof payload === "string" ? new TextEncoder().encode(payload) : payload;
    this.socket.send(concat([Uint8Array.of(channel), bytes]));
  }

  text(channel: number): string {
    return new TextDecoder().decode(concat(this.#pieces[channel] ?? []));
  }
}

async function withCommand(
  run: CommandRunner,
  wanted: StreamsWanted,
  use: (client: ChannelClient) => Promise<void>,
  protocols = ["v5.channel.k8s.io", "v4.channel.k8s.io"],
): Promise<void> {
  await withServer(async (server) => {
    const socket = new WebSocket(server.execUrl(wanted, run).replace("http", "ws"), protocols);
    const client = new ChannelClient(socket);
    await client.opened;
    assertEquals(socket.protocol, protocols[0]);
    await use(client);
    await client.closed;
  });
}

Deno.test("StreamingServer gives stdout, stderr and the exit code on channels of a WebSocket", () =>
  withCommand(runProgram("sh", "-c", "echo out; echo err >&2; exit 3"), ALL, async (client) => {
    assertEquals(await client.closed, 1000);
    assertEquals([client.text(1), client.text(2)], ["out\n", "err\n"]);
    assertEquals(JSON.parse(client.text(3)).details.causes, [{ reason: "ExitCode", message: "3" }]);
  }));

Deno.test(`StreamingServer half-closes stdin when a client of ${V5} says so`, () =>
  withCommand(runProgram("sha256sum"), ALL, async (client) => {
    const sent = new Uint8Array(1_000_000).fill(7);
    for (let turn = 0; turn < 20; turn++) client.send(0, sent);
    client.send(255, Uint8Array.of(0));
    await client.closed;
    const whole = new Uint8Array(20_000_000).fill(7);
    const sum = new Uint8Array(await crypto.subtle.digest("SHA-256", whole)).toHex();
    assertEquals(client.text(1), `${sum}  -\n`);
    assertEquals(JSON.parse(client.text(3)).status, "Success");
  }));

Deno.test("StreamingServer passes stdin and sizes of a terminal to a client of v4.channel.k8s.io", () => {
  const run: CommandRunner = async ({ stdin, resizes, stdout }) => {
    const line = await stdin.next();
    const { value } = await resizes.next();
    await stdout(concat([line.value, new TextEncoder().encode(` ${value?.width}`)]));
    return 0;
  };
  const tty = { stdin: true, stdout: true, stderr: false, tty: true };
  return withCommand(run, tty, async (client) => {
    client.send(0, "typed");
    client.send(4, '{"Width":90,"Height":30}');
    await client.closed;
    assertEquals(client.text(1), "typed 90");
  }, ["v4.channel.k8s.io"]);
});

Deno.test("StreamingServer aborts the command when its WebSocket is cut", async () => {
  const aborted = Promise.withResolvers<void>();
  const run: CommandRunner = async (_streams, signal) => {
    signal.addEventListener("abort", () => aborted.resolve());
    await aborted.promise;
    return 0;
  };
  await withCommand(run, ALL, async (client) => {
    client.socket.terminate();
    await aborted.promise;
  });
});

Deno.test("StreamingServer ends a session, and no other, that sends text", () =>
  withServer(async (server) => {
    const connect = async () => {
      const url = server.execUrl(ALL, runProgram("cat")).replace("http", "ws");
      const client = new ChannelClient(new WebSocket(url, [V5]));
      await client.opened;
      return client;
    };
    const [good, bad] = [await connect(), await connect()];
    bad.socket.send("text");
    assertEquals(await bad.closed, 1003);
    good.send(0, "still here");
    good.send(255, Uint8Array.of(0));
    await good.closed;
    assertEquals(good.text(1), "still here");
  }));

Deno.test("StreamingServer agrees to SPDY within WebSocket messages for a port", () =>
  withServer(async (server) => {
    await using port = echoPort();
    const protocol = "SPDY/3.1+portforward.k8s.io";
    const url = new URL(server.portForwardUrl(port.forward));
    // The client of ws takes no such name: it asks by a header of ours, and gives up at the answer.
    const socket = new WebSocket(url.href.replace("http", "ws"), {
      headers: { "Sec-WebSocket-Protocol": protocol },
    });
    const answer = Promise.withResolvers<string>();
    socket.once(
      "upgrade",
      (response) => answer.resolve(String(response.headers["sec-websocket-protocol"])),
    );
    socket.once("error", () => answer.reject(new Error("refused")));
    assertEquals(await answer.promise, protocol);
  }));
