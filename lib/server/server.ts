/** The gRPC server on a unix socket: all RPCs of CRI v1, passed as wire bytes to one backend. */
import {
  logVerbosity,
  Server,
  ServerCredentials,
  type ServerOptions,
  setLogVerbosity,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import type { Clock } from "../base/clock.ts";
import { CriError, messageOf } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import { type CriBackend, type CriMethod, MAX_MESSAGE_BYTES, METHODS } from "../cri/service.ts";
import { toBuffer } from "../cri/wire.ts";
import { UnixStream } from "../executors/unix_stream.ts";
import { type CallEnvironment, streamHandler, unaryHandler } from "./call.ts";
import { OpenCalls } from "./open_calls.ts";
import { bindSocket, type OwnedSocket } from "./socket.ts";

/** How long a closing server lets calls finish; well within the 90 s that systemd gives a stopping unit. */
const DRAIN_GRACE_MS = 10_000;

/** How long calls may take to unwind after they were aborted, before their connections are cut. */
const ABORT_GRACE_MS = 2_000;

/** Between two tries to accept connections after one that failed. */
const ACCEPT_RETRY_MS = 100;

/**
 * Neither keep-alive pings nor a maximal age of connections: on a unix socket the kernel tells both sides at
 * once when the other is gone, and GetContainerEvents is meant to stay open for ever.
 */
const SERVER_OPTIONS: ServerOptions = {
  "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
  "grpc.max_send_message_length": MAX_MESSAGE_BYTES,
  // Nobody asks for channelz, but forceShutdown() of grpc-js 1.14 finds connections only in its books.
  "grpc.enable_channelz": 1,
};

export interface ServeOptions {
  /** Absolute, at most 107 bytes; its directory exists. */
  readonly socketPath: string;
  readonly backend: CriBackend;
  readonly log: Logger;
  readonly clock: Clock;
  /**
   * Why calls cannot be answered yet, as a sentence, or undefined once they can. Until then every call is
   * UNAVAILABLE, which clients retry. Without it the server is ready at once.
   */
  readonly notReady?: () => string | undefined;
}

export interface CriServer {
  /**
   * Stops accepting, ends the open streams, lets the other calls finish within a bound, aborts what is left,
   * and removes the socket. May be called again; all callers wait for the same end.
   */
  close(): Promise<void>;
}

// grpc-js writes lines of its own to stderr, about errors that it also gives to its caller.
setLogVerbosity(logVerbosity.NONE);

/**
 * Serves `backend` on a unix socket with mode 0600.
 *
 * @throws CriError as `bindSocket` when the socket cannot be had
 */
export async function serveCri(options: ServeOptions): Promise<CriServer> {
  const { socketPath, backend, log, clock } = options;
  const openCalls = new OpenCalls();
  let closing: Promise<void> | undefined;
  const server = new Server(SERVER_OPTIONS);
  addMethods(server, {
    backend,
    log,
    clock,
    openCalls,
    refusal() {
      if (closing) return shuttingDown();
      const reason = options.notReady?.();
      return reason === undefined ? undefined : new CriError("UNAVAILABLE", reason);
    },
  });
  const socket = await bindSocket(socketPath);
  const connections = new Set<UnixStream>();
  const accepting = acceptAll(socket, server, connections, options);
  log.info("Listening", { socket: socketPath });

  const close = async () => {
    await socket.close();
    await accepting;
    // It calls back before the last answers have left.
    server.tryShutdown(() => {});
    const closed = [...connections].map((connection) =>
      new Promise<void>((resolve) => connection.once("close", resolve))
    );
    const drained = Promise.all([...closed, openCalls.idle()]);
    openCalls.abort((method) => method.responseStream, shuttingDown());
    if (!await within(drained, DRAIN_GRACE_MS, clock)) {
      openCalls.abort(() => true, shuttingDown());
      if (!await within(drained, ABORT_GRACE_MS, clock)) {
        log.warning("Cutting calls that did not end", { rpcs: openCalls.names().join(",") });
      }
    }
    server.forceShutdown();
    log.info("Closed", { socket: socketPath });
  };
  return { close: () => closing ??= close() };
}

function addMethods(server: Server, environment: CallEnvironment): void {
  const definition = Object.fromEntries(METHODS.map((method) => [method.name, wireOf(method)]));
  const handlers: UntypedServiceImplementation = {};
  for (const method of METHODS) {
    handlers[method.name] = method.responseStream
      ? streamHandler(method, environment)
      : unaryHandler(method, environment);
  }
  server.addService(definition, handlers);
}

/** Messages stay the bytes they are: only the backend knows whether they must be read at all. */
function wireOf(method: CriMethod) {
  // A plain view: Buffer's slice() shares memory where Uint8Array's copies.
  const toBytes = (buffer: Uint8Array) =>
    new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
  return {
    path: method.path,
    requestStream: false,
    responseStream: method.responseStream,
    requestSerialize: toBuffer,
    requestDeserialize: toBytes,
    responseSerialize: toBuffer,
    responseDeserialize: toBytes,
  };
}

/** Gives connections to the server until the socket is closed; those that are open are in `connections`. */
async function acceptAll(
  socket: OwnedSocket,
  server: Server,
  connections: Set<UnixStream>,
  { log, clock, socketPath }: ServeOptions,
): Promise<void> {
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  for (;;) {
    try {
      const accepted = await socket.accept();
      if (accepted === undefined) return;
      const connection = new UnixStream(accepted);
      connections.add(connection);
      connection.once("close", () => connections.delete(connection));
      injector.injectConnection(connection);
    } catch (error) {
      // Such as too many open files: others will be closed.
      log.error("Cannot accept a connection", { socket: socketPath, error: messageOf(error) });
      await clock.sleep(ACCEPT_RETRY_MS);
    }
  }
}

function shuttingDown(): CriError {
  return new CriError("UNAVAILABLE", "multicri is shutting down: try again when it is back.");
}

/** Whether `promise` is fulfilled within `ms` milliseconds. */
async function within(promise: Promise<unknown>, ms: number, clock: Clock): Promise<boolean> {
  const waiting = new AbortController();
  const timeout = clock.sleep(ms, waiting.signal).then(() => false, () => false);
  try {
    return await Promise.race([promise.then(() => true), timeout]);
  } finally {
    waiting.abort();
  }
}
