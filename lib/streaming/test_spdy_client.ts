/** A client's side of SPDY/3.1 over any Duplex, as far as tests need it. */
import { connect, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { concat } from "@std/bytes/concat";
import { CONTROL, controlFrame, dataHeader, fieldOf, FrameParser } from "./spdy_frames.ts";

/** One stream, opened by the client. */
export class ClientStream {
  readonly pieces: Uint8Array[] = [];
  readonly #replied = Promise.withResolvers<void>();
  readonly #ended = Promise.withResolvers<"fin" | "reset" | "closed">();
  #gotReply = false;

  constructor(readonly id: number, private readonly client: SpdyClient) {}

  get replied(): Promise<void> {
    return this.#replied.promise;
  }

  /** How the server ended it. */
  get ended(): Promise<"fin" | "reset" | "closed"> {
    return this.#ended.promise;
  }

  write(bytes: Uint8Array | string): Promise<void> {
    const data = typeof bytes === "string" ? new TextEncoder().encode(bytes) : bytes;
    return this.client.send(concat([dataHeader(this.id, data.length, false), data]));
  }

  end(): Promise<void> {
    return this.client.send(dataHeader(this.id, 0, true));
  }

  /** All that came, once it ended. */
  async text(): Promise<string> {
    await this.ended;
    return new TextDecoder().decode(concat(this.pieces));
  }

  reply(): void {
    this.#gotReply = true;
    this.#replied.resolve();
  }

  take(bytes: Uint8Array, last: boolean): void {
    if (!this.#gotReply) throw new Error("data came before SYN_REPLY, where clients drop it");
    if (bytes.length > 0) this.pieces.push(bytes.slice());
    if (last) this.#ended.resolve("fin");
  }

  finish(how: "reset" | "closed"): void {
    this.#replied.resolve();
    this.#ended.resolve(how);
  }
}

export class SpdyClient implements AsyncDisposable {
  readonly #streams = new Map<number, ClientStream>();
  /** Ids of pings that the server sent back. */
  readonly pongs: number[] = [];
  readonly closed: Promise<void>;
  #nextId = 1;
  #blocks = 0;

  constructor(readonly transport: Duplex) {
    this.closed = new Promise((resolve) => transport.once("close", () => resolve()));
    transport.on("error", () => {});
    transport.on("end", () => transport.end());
    this.closed.then(() => this.#streams.forEach((stream) => stream.finish("closed")));
    const parser = new FrameParser();
    transport.on("data", (chunk: Uint8Array) => {
      for (const frame of parser.parse(chunk)) {
        if (frame.kind === "data") {
          this.#streams.get(frame.streamId)?.take(frame.bytes, frame.last);
          continue;
        }
        const id = fieldOf(frame.body, 0);
        if (frame.type === CONTROL.SYN_REPLY) this.#streams.get(id)?.reply();
        if (frame.type === CONTROL.RST_STREAM) this.#streams.get(id)?.finish("reset");
        if (frame.type === CONTROL.PING) this.pongs.push(id);
      }
    });
    transport.resume();
  }

  /** Upgrades a connection to a URL of the streaming server. @throws Error with the answer when it refuses. */
  static async connect(url: string, protocols: readonly string[]): Promise<SpdyClient> {
    const { hostname, port, pathname } = new URL(url);
    const socket = connect(Number(port), hostname);
    socket.write(
      `POST ${pathname} HTTP/1.1\r\nHost: ${hostname}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n` +
        protocols.map((name) => `X-Stream-Protocol-Version: ${name}\r\n`).join("") +
        "Content-Length: 0\r\n\r\n",
    );
    const { head, rest } = await readHead(socket);
    if (!head.startsWith("HTTP/1.1 101 ")) {
      const answer = new Promise((resolve) => socket.once("close", resolve));
      socket.destroy();
      await answer;
      throw new Error(head + new TextDecoder().decode(rest));
    }
    if (rest.length > 0) socket.unshift(rest);
    return new SpdyClient(socket);
  }

  /** Opens a stream and waits for the server's reply, as client-go does. */
  async open(headers: Record<string, string>): Promise<ClientStream> {
    const stream = new ClientStream(this.#nextId, this);
    this.#nextId += 2;
    this.#streams.set(stream.id, stream);
    const block = headerBlock(headers, this.#blocks++ === 0);
    await this.send(
      controlFrame(CONTROL.SYN_STREAM, [stream.id, 0], concat([Uint8Array.of(0, 0), block])),
    );
    await stream.replied;
    return stream;
  }

  send(bytes: Uint8Array): Promise<void> {
    return new Promise((resolve) => this.transport.write(bytes, () => resolve()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.transport.destroy();
    await this.closed;
  }
}

function readHead(socket: Socket): Promise<{ head: string; rest: Uint8Array }> {
  return new Promise((resolve, reject) => {
    let bytes: Uint8Array = new Uint8Array();
    const onData = (chunk: Uint8Array) => {
      bytes = concat([bytes, chunk]);
      const text = new TextDecoder("latin1").decode(bytes);
      const end = text.indexOf("\r\n\r\n");
      if (end === -1) return;
      socket.off("data", onData);
      socket.pause();
      resolve({ head: text.slice(0, end + 4), rest: bytes.slice(end + 4) });
    };
    socket.on("data", onData);
    socket.once("error", reject);
  });
}

/** Names and values in a stored block of a zlib stream (RFC 1950, 1951) that ends with a sync marker. */
function headerBlock(headers: Record<string, string>, isFirst: boolean): Uint8Array {
  const number = (value: number) => {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, value);
    return bytes;
  };
  const texts = Object.entries(headers).flat().map((text) => new TextEncoder().encode(text));
  const plain = concat([
    number(texts.length / 2),
    ...texts.flatMap((text) => [number(text.length), text]),
  ]);
  const lengths = new Uint8Array(5);
  new DataView(lengths.buffer).setUint16(1, plain.length, true);
  new DataView(lengths.buffer).setUint16(3, ~plain.length & 0xffff, true);
  const sync = Uint8Array.of(0, 0, 0, 0xff, 0xff);
  return concat([isFirst ? Uint8Array.of(0x78, 0x01) : new Uint8Array(), lengths, plain, sync]);
}
