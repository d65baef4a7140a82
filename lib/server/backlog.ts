import type { ServerWritableStream } from "@grpc/grpc-js";

/** An HTTP/2 session with a socket that counts, as node:http2 has it. */
interface CountingSession {
  readonly destroyed: boolean;
  readonly socket: {
    readonly bytesWritten: number;
    /** Of those, what waits for a client that does not read its socket. */
    readonly writableLength: number;
  };
}

/**
 * How much of a stream's answers waits for its client.
 *
 * Deno 2.9 reports a write as done when HTTP/2 has queued it, also while the client's flow-control window is shut
 * (Node waits), and counts that queue nowhere. But the socket below counts what has left it: what was written to
 * the stream and did not leave is waiting. Other calls of the connection leave by the same socket, so that this is
 * the least that waits; where a client does nothing else on its connection, as `crictl events`, it is all.
 */
export class Backlog {
  readonly #session: CountingSession | undefined;
  readonly #sentBefore: number;
  #written = 0;

  constructor(call: ServerWritableStream<Uint8Array, Uint8Array>) {
    // grpc-js has no name for the HTTP/2 stream below a call; without it nothing would be known to wait.
    const { call: below } = call as unknown as {
      call?: { stream?: { session?: CountingSession } };
    };
    this.#session = below?.stream?.session;
    this.#sentBefore = this.#sent();
  }

  /** Counts an answer that was written to the stream. */
  add(bytes: number): void {
    this.#written += bytes;
  }

  /** The least number of bytes that waits; 0 when nobody is left to wait for. */
  get bytes(): number {
    return this.#session === undefined || this.#session.destroyed
      ? 0
      : this.#written - (this.#sent() - this.#sentBefore);
  }

  #sent(): number {
    // The socket of a destroyed session may not be touched.
    if (this.#session === undefined || this.#session.destroyed) return 0;
    const { bytesWritten, writableLength } = this.#session.socket;
    return bytesWritten - writableLength;
  }
}
