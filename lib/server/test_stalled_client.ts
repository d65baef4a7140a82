/** A client that calls one RPC and opens no flow-control window for its answers, as a program does that was stopped. */
import { connect, type Socket } from "node:net";
import { Buffer } from "node:buffer";
import { rpc } from "./test_client.ts";

/** Types of HTTP/2 frames (RFC 9113, section 6). */
const FRAME = { data: 0, headers: 1, settings: 4, windowUpdate: 8 } as const;
const END_STREAM = 1;
const END_HEADERS = 4;
const STREAM_ID = 1;

export class StalledClient {
  readonly #socket: Socket;
  /** Bytes that came; the window of a stream has 65,535 at first. */
  receivedBytes = 0;

  constructor(socketPath: string, rpcName: string) {
    this.#socket = connect(socketPath);
    this.#socket.on("data", (bytes: Uint8Array) => this.receivedBytes += bytes.length);
    this.#socket.on("error", () => {});
    this.#socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    this.#write(FRAME.settings, 0, 0, []);
    const headers = [
      [":method", "POST"],
      [":scheme", "http"],
      [":path", rpc(rpcName).path],
      [":authority", "localhost"],
      ["content-type", "application/grpc"],
      ["te", "trailers"],
    ].flatMap(([name = "", value = ""]) => [0, ...literal(name), ...literal(value)]);
    this.#write(FRAME.headers, END_HEADERS, STREAM_ID, headers);
    // An empty message: not compressed, no bytes.
    this.#write(FRAME.data, END_STREAM, STREAM_ID, [0, 0, 0, 0, 0]);
    // The connection's window alone, which other streams would share.
    this.#write(FRAME.windowUpdate, 0, 0, [0x10, 0, 0, 0]);
  }

  /** Opens the stream's window: the client reads again. */
  resume(): void {
    this.#write(FRAME.windowUpdate, 0, STREAM_ID, [0x10, 0, 0, 0]);
  }

  close(): Promise<void> {
    return new Promise((resolve) => {
      this.#socket.on("close", () => resolve());
      this.#socket.destroy();
    });
  }

  #write(type: number, flags: number, streamId: number, payload: readonly number[]): void {
    const { length } = payload;
    this.#socket.write(
      Buffer.from([0, length >> 8, length & 255, type, flags, 0, 0, 0, streamId, ...payload]),
    );
  }
}

/** A string of HPACK (RFC 7541, section 5.2) that is not compressed, of at most 126 bytes. */
function literal(text: string): number[] {
  return [text.length, ...new TextEncoder().encode(text)];
}
