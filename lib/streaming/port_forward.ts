import type { Duplex } from "node:stream";
import { messageOf } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import { IdleTimer, inTime, type SessionLimits } from "./limits.ts";
import type { PortForwarder } from "./process.ts";
import { SpdyConnection, type SpdyStream } from "./spdy_connection.ts";

/** The protocol on an SPDY connection. */
export const PORT_FORWARD_PROTOCOL = "portforward.k8s.io";
/** The same connection within WebSocket messages (KEP 4006), as a WebSocket subprotocol. */
export const TUNNELLED_PORT_FORWARD_PROTOCOL = `SPDY/3.1+${PORT_FORWARD_PROTOCOL}`;

const LAST_PORT = 65_535;

/** The two streams of one connection to a port. */
interface Pair {
  error?: SpdyStream;
  data?: SpdyStream;
  complete: PromiseWithResolvers<void>;
}

/**
 * Serves PortForward on an SPDY connection: for each connection to a port the client opens a stream `error`, for a
 * sentence when something goes wrong, and a stream `data`; headers tell the port and which belong together.
 */
export async function servePortForward(
  transport: Duplex,
  forward: PortForwarder,
  limits: SessionLimits,
  log: Logger,
): Promise<void> {
  const pairs = new Map<string, Pair>();
  const running = new Set<Promise<void>>();
  const idle = new IdleTimer(limits.idleMs, () => connection.destroy(new Error("It was idle.")));

  const serve = async (id: string, pair: Pair, port: number): Promise<void> => {
    const paired = await inTime(pair.complete.promise, limits.creationMs, connection.signal);
    pairs.delete(id);
    const { error, data } = pair;
    try {
      if (!paired || data === undefined || error === undefined) {
        throw new Error("The client opened only one of two streams.");
      }
      await forward(port, {
        incoming: data.incoming,
        outgoing: (piece) => data.write(piece),
        endOutgoing: () => data.end(),
      }, data.signal);
      await data.end();
      await error.end();
      await data.incoming.return();
    } catch (thrown) {
      if (connection.signal.aborted) return;
      // client-go resets a stream that it has read to its end; told of an error, it would give up the whole connection.
      if (data?.signal.aborted) return await error?.end();
      log.info("A connection to a port failed", { port, error: messageOf(thrown) });
      await error?.write(new TextEncoder().encode(messageOf(thrown)));
      await error?.end();
      await data?.reset();
    }
  };

  const onStream = (stream: SpdyStream): boolean => {
    const port = Number(stream.headers.get("port"));
    const type = stream.headers.get("streamtype");
    const id = stream.headers.get("requestid");
    if (!Number.isInteger(port) || port < 1 || port > LAST_PORT) return false;
    if (id === undefined || (type !== "error" && type !== "data")) return false;
    const known = pairs.get(id);
    if (known?.[type] !== undefined) return false;
    const pair = known ?? { complete: Promise.withResolvers<void>() };
    pair[type] = stream;
    if (known !== undefined) pair.complete.resolve();
    else {
      pairs.set(id, pair);
      const served = serve(id, pair, port).catch(() => {
        // The client is gone.
      }).finally(() => running.delete(served));
      running.add(served);
    }
    return true;
  };

  const connection = new SpdyConnection(transport, onStream, () => idle.touch());
  const over = Promise.withResolvers<void>();
  connection.signal.addEventListener("abort", () => over.resolve());
  if (connection.signal.aborted) over.resolve();
  await over.promise;
  idle.close();
  transport.destroy();
  await Promise.all(running);
}
