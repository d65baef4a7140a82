import type { Duplex } from "node:stream";
import { systemClock } from "../base/clock.ts";
import { messageOf } from "../base/error.ts";
import { ByteQueue } from "./byte_queue.ts";
import {
  CONTROL,
  controlFrame,
  dataHeader,
  fieldOf,
  FLAG_FIN,
  type Frame,
  FrameParser,
  ProtocolError,
  RESET,
} from "./spdy_frames.ts";
import { emptyHeaderBlock, HeaderReader } from "./spdy_headers.ts";

/**
 * What is held of a stream that nobody reads. SPDY as Kubernetes' clients speak it has no flow control, so beyond that
 * nothing of the whole connection is read, and the client's own writes wait.
 */
const MAX_HELD_BYTES = 256 * 1024;
/** Of one data frame; larger ones would only make the others' wait. */
const MAX_DATA_BYTES = 64 * 1024;
/** A client uses two streams for each connection to a port; one with more open at once leaks them. */
const MAX_STREAMS = 1024;
/** How long the other side may take to read what was sent and close, before the connection is cut. */
const LINGER_MS = 10_000;

/** One stream of a connection, opened by the other side; reading it gives what comes until it is half-closed. */
export class SpdyStream {
  readonly incoming = new ByteQueue(MAX_HELD_BYTES);
  /** Aborts when the stream was reset by the other side, or its connection is over. */
  readonly signal: AbortSignal;
  readonly #over = new AbortController();
  #ended = false;
  #incomingEnded = false;

  constructor(
    readonly id: number,
    /** By names in lower case. */
    readonly headers: ReadonlyMap<string, string>,
    private readonly connection: SpdyConnection,
  ) {
    this.signal = this.#over.signal;
  }

  /** Resolves when the next piece may be written. Rejects when the other side reads no more. */
  async write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; at += MAX_DATA_BYTES) {
      if (this.#ended) throw new Error("The stream was closed.");
      const piece = bytes.subarray(at, at + MAX_DATA_BYTES);
      await this.connection.send(dataHeader(this.id, piece.length, false), piece);
    }
  }

  /** Half-closes: nothing more is written. */
  async end(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    if (this.#incomingEnded) this.connection.forget(this);
    await this.connection.send(dataHeader(this.id, 0, true));
  }

  /** The other side writes no more. */
  endIncoming(): void {
    this.#incomingEnded = true;
    this.incoming.end();
    if (this.#ended) this.connection.forget(this);
  }

  /** Ends both directions. */
  async reset(): Promise<void> {
    this.abandon(new Error("The stream was reset."));
    await this.connection.send(controlFrame(CONTROL.RST_STREAM, [this.id, RESET.CANCEL]));
  }

  /** Nothing can come or go any more. */
  abandon(error: unknown): void {
    this.#ended = true;
    this.incoming.fail(error);
    this.connection.forget(this);
    this.#over.abort(error);
  }
}

/** The server's side of an SPDY/3.1 connection. */
export class SpdyConnection {
  /** Aborts when the connection is over, whoever ended it. */
  readonly signal: AbortSignal;
  readonly #over = new AbortController();
  readonly #streams = new Map<number, SpdyStream>();
  readonly #headers = new HeaderReader();
  #repliesSent = 0;
  #lastStreamId = 0;
  #drained: PromiseWithResolvers<void> | undefined;

  /**
   * Takes over `transport` and calls `onStream` for each stream that the other side opens; false refuses it.
   * `onActivity` is called whenever something comes or goes.
   */
  constructor(
    private readonly transport: Duplex,
    private readonly onStream: (stream: SpdyStream) => boolean,
    private readonly onActivity: () => void,
  ) {
    this.signal = this.#over.signal;
    transport.on("drain", () => this.#wakeWriters());
    transport.on("error", (error) => this.#finish(error));
    transport.on("close", () => this.#finish(new Error("The client closed the connection.")));
    this.#read().catch((error) => this.destroy(error));
  }

  /** Tells the other side that it was all, waits until it has read it, and closes. */
  async close(): Promise<void> {
    const lingered = new AbortController();
    const closed = new Promise<void>((resolve) => {
      if (this.transport.closed) resolve();
      else this.transport.once("close", () => resolve());
    });
    for (const stream of this.#streams.values()) stream.incoming.return();
    this.send(controlFrame(CONTROL.GOAWAY, [this.#lastStreamId, 0])).catch(() => {
      // It is gone already.
    });
    this.transport.end();
    systemClock.sleep(LINGER_MS, lingered.signal).then(() => this.transport.destroy(), () => {});
    await closed;
    lingered.abort();
  }

  /** Cuts the connection. */
  destroy(error: unknown): void {
    this.#finish(error);
    this.transport.destroy();
  }

  /** Writes one frame. Resolves when the next may be written; rejects when the connection is over. */
  async send(...parts: Uint8Array[]): Promise<void> {
    this.signal.throwIfAborted();
    this.onActivity();
    this.transport.cork();
    for (const part of parts) this.transport.write(part);
    this.transport.uncork();
    if (!this.transport.writableNeedDrain) return;
    this.#drained ??= Promise.withResolvers();
    await this.#drained.promise;
    this.signal.throwIfAborted();
  }

  forget(stream: SpdyStream): void {
    this.#streams.delete(stream.id);
  }

  async #read(): Promise<void> {
    const parser = new FrameParser();
    const pieces = this.transport.iterator({ destroyOnReturn: false });
    for await (const chunk of pieces as AsyncIterable<Uint8Array>) {
      this.onActivity();
      for (const frame of parser.parse(chunk)) {
        await (frame.kind === "data" ? this.#takeData(frame) : this.#takeControl(frame));
      }
    }
    // Without a connection in this direction there is no client any more.
    this.#finish(new Error("The client closed the connection."));
  }

  async #takeData({ streamId, bytes, last }: Frame & { kind: "data" }): Promise<void> {
    const stream = this.#streams.get(streamId);
    // One that was reset here may still be written to there.
    if (stream === undefined) return;
    await stream.incoming.push(bytes);
    if (last) stream.endIncoming();
  }

  async #takeControl({ type, flags, body }: Frame & { kind: "control" }): Promise<void> {
    switch (type) {
      case CONTROL.SYN_STREAM:
        return await this.#open(fieldOf(body, 0), (flags & FLAG_FIN) !== 0, body.subarray(10));
      case CONTROL.RST_STREAM:
        this.#streams.get(fieldOf(body, 0))?.abandon(new Error("The client reset the stream."));
        return;
      case CONTROL.PING: {
        // The other side's have odd numbers (2.6.5).
        const id = fieldOf(body, 0);
        if (id % 2 === 1) await this.send(controlFrame(CONTROL.PING, [id]));
        return;
      }
    }
  }

  async #open(id: number, halfClosed: boolean, block: Uint8Array): Promise<void> {
    if (id % 2 === 0 || id <= this.#lastStreamId) {
      throw new ProtocolError(`a stream has the id ${id}`);
    }
    this.#lastStreamId = id;
    const stream = new SpdyStream(id, await this.#headers.read(block), this);
    if (halfClosed) stream.endIncoming();
    if (this.#streams.size >= MAX_STREAMS) return await this.#refuse(id);
    // The reply goes first: before it the other side drops what comes on the stream.
    const reply = emptyHeaderBlock(this.#repliesSent++ === 0);
    this.#streams.set(id, stream);
    await this.send(controlFrame(CONTROL.SYN_REPLY, [id], reply));
    if (this.onStream(stream)) return;
    this.#streams.delete(id);
    await this.#refuse(id);
  }

  async #refuse(id: number): Promise<void> {
    await this.send(controlFrame(CONTROL.RST_STREAM, [id, RESET.REFUSED_STREAM]));
  }

  #finish(error: unknown): void {
    if (this.signal.aborted) return;
    this.#over.abort(new Error(messageOf(error), { cause: error }));
    for (const stream of [...this.#streams.values()]) stream.abandon(this.signal.reason);
    this.#wakeWriters();
    this.#headers.close();
  }

  #wakeWriters(): void {
    this.#drained?.resolve();
    this.#drained = undefined;
  }
}
