/**
 * Unix sockets for HTTP/2. Those of node:net close their descriptor twice when a connection ends (strace, Deno 2.8 to
 * 2.9.3). Between the two, another thread may have opened a file under that number, which is then closed under its
 * user, and what he writes gets into whatever comes next under it. So these are Deno's own sockets, in the form of
 * node's streams.
 */
import { Buffer } from "node:buffer";
import net from "node:net";
import { Duplex } from "node:stream";

const READ_BYTES = 64 * 1024;
/** How long an end waits for a reader; who does not read for so long has stopped. */
const LAST_BYTES_MS = 1_000;

type Done = (error?: Error | null) => void;

/** A connected unix socket, or one that is about to be connected. */
export class UnixStream extends Duplex {
  readonly #buffer = new Uint8Array(READ_BYTES);
  #connection: Deno.UnixConn | undefined;
  #sentBytes = 0;
  /** The timer of an end that waits for what is still to be sent. */
  #lastBytes: ReturnType<typeof setTimeout> | undefined;

  constructor(connection?: Deno.UnixConn) {
    // HTTP/2 has no half of a connection: when one side ends, all of it does.
    super({ allowHalfOpen: false });
    this.#connection = connection;
    // The session on it learns of a broken connection by `close`; without a listener it would end the process.
    this.on("error", () => {});
  }

  /** Connects to the socket at `path`; `connected` is called then, and else the stream is destroyed with the reason. */
  connect(path: string, connected: () => void): this {
    Deno.connect({ transport: "unix", path }).then((connection) => {
      if (this.destroyed) return connection.close();
      this.#connection = connection;
      connected();
    }, (error) => this.destroy(systemError("connect", error, path)));
    return this;
  }

  /** As node:net counts: with what is still to be sent. */
  get bytesWritten(): number {
    return this.#sentBytes + this.writableLength;
  }

  /** There is no delay on a unix socket. */
  setNoDelay(): this {
    return this;
  }

  /**
   * HTTP/2 destroys the socket of a session that has ended, while the session's last bytes are on their way: those of
   * node:net are with the kernel by then. So without an error what was written is sent first, for LAST_BYTES_MS at
   * most.
   */
  override destroy(error?: Error): this {
    const hasMore = this.#connection !== undefined && this.writableLength > 0;
    if (error !== undefined || !hasMore || this.#lastBytes !== undefined || this.destroyed) {
      clearTimeout(this.#lastBytes);
      return super.destroy(error);
    }
    this.#lastBytes = setTimeout(() => this.destroy(), LAST_BYTES_MS);
    this.once("finish", () => this.destroy());
    if (!this.writableEnded) this.end();
    return this;
  }

  ref(): this {
    this.#connection?.ref();
    return this;
  }

  unref(): this {
    this.#connection?.unref();
    return this;
  }

  override _read(): void {
    this.#connection?.read(this.#buffer).then(
      (count) => this.push(count === null ? null : Buffer.from(this.#buffer.slice(0, count))),
      (error) => this.destroy(systemError("read", error)),
    );
  }

  override _write(chunk: Uint8Array, _encoding: string, done: Done): void {
    this.#send(chunk).then(() => done(), (error) => done(systemError("write", error)));
  }

  override _writev(chunks: { chunk: Buffer }[], done: Done): void {
    this._write(Buffer.concat(chunks.map(({ chunk }) => chunk)), "", done);
  }

  override _final(done: Done): void {
    // The other side may have closed already.
    (this.#connection?.closeWrite() ?? Promise.resolve()).then(() => done(), () => done());
  }

  override _destroy(error: Error | null, done: Done): void {
    this.#connection?.close();
    this.#connection = undefined;
    done(error);
  }

  async #send(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      if (this.#connection === undefined) throw new Deno.errors.BrokenPipe("it is closed here");
      at += await this.#connection.write(bytes.subarray(at));
    }
    this.#sentBytes += bytes.length;
  }
}

let connectsByUnixStream = false;

/** Lets clients of node:net, of which grpc-js is one, connect to unix sockets by `UnixStream`, from now on. */
export function connectByUnixStream(): void {
  if (connectsByUnixStream) return;
  connectsByUnixStream = true;
  const connect = net.connect as (...args: unknown[]) => net.Socket;
  net.connect = ((...args: unknown[]) => {
    const [options, connected] = args as [{ path?: string } | undefined, () => void];
    const path = options?.path;
    return path === undefined ? connect(...args) : new UnixStream().connect(path, connected);
  }) as typeof net.connect;
}

/** In the words of node, which grpc-js hands on and its users know: `connect ENOENT /run/x.sock`. */
function systemError(verb: string, error: Error & { code?: string }, path?: string): Error {
  const { code = error.name } = error;
  return Object.assign(new Error([verb, code, path].filter(Boolean).join(" "), { cause: error }), {
    code,
  });
}
