import { Buffer } from "node:buffer";
import { createServer, type IncomingMessage, type Server, STATUS_CODES } from "node:http";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
// @ts-types="@types/ws"
import { createWebSocketStream, type WebSocket, WebSocketServer } from "ws";
import { type Clock, systemClock } from "../base/clock.ts";
import { CriError, messageOf } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import { DEFAULT_LIMITS, type SessionLimits } from "./limits.ts";
import { PendingServices } from "./pending.ts";
import {
  PORT_FORWARD_PROTOCOL,
  servePortForward,
  TUNNELLED_PORT_FORWARD_PROTOCOL,
} from "./port_forward.ts";
import type { CommandRunner, PortForwarder, StreamsWanted } from "./process.ts";
import type { CommandService } from "./remote_command.ts";
import { serveSpdyCommand, SPDY_COMMAND_PROTOCOLS } from "./spdy_command.ts";
import { serveWebSocketCommand, WEBSOCKET_COMMAND_PROTOCOLS } from "./websocket_command.ts";

/** Clients at once: each costs up to some hundred KiB when it is slow. */
const MAX_SESSIONS = 1000;
/** Clients send 32 KiB at a time; a message is held as a whole. */
const MAX_MESSAGE_BYTES = 4 * 1024 * 1024;
/** A client that is slower to say what it wants says nothing. */
const REQUEST_TIMEOUT_MS = 10_000;

type Service =
  | ({ kind: "exec" | "attach" } & CommandService)
  | { kind: "portforward"; forward: PortForwarder };

export interface StreamingServerOptions {
  /** An address of this machine. */
  address: string;
  /** 0: any that is free. */
  port: number;
  log: Logger;
  clock?: Clock;
  limits?: SessionLimits;
}

/**
 * Serves what Exec, Attach and PortForward answer with a URL for: the kubelet, crictl or critest come to it with
 * SPDY/3.1 or WebSocket, and get the process or port that the URL stands for.
 */
export class StreamingServer {
  readonly #pending: PendingServices<Service>;
  readonly #sessions = new Set<Promise<void>>();
  readonly #sockets = new Set<Duplex>();
  readonly #webSockets = new WebSocketServer({
    noServer: true,
    maxPayload: MAX_MESSAGE_BYTES,
    perMessageDeflate: false,
    handleProtocols: (offered) =>
      WEBSOCKET_COMMAND_PROTOCOLS.find((name) => offered.has(name)) ?? false,
  });

  private constructor(
    private readonly server: Server,
    private readonly options: StreamingServerOptions,
  ) {
    this.#pending = new PendingServices(options.clock ?? systemClock);
    server.on("connection", (socket: Duplex) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
      // Without a listener a broken connection would end this process.
      socket.on("error", () => {});
    });
    server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      socket.on("error", () => {});
      this.#upgrade(request, socket, head);
    });
    this.#webSockets.on("headers", (headers, request) => {
      if (isTunnelled(request)) {
        headers.push(`Sec-WebSocket-Protocol: ${TUNNELLED_PORT_FORWARD_PROTOCOL}`);
      }
    });
  }

  /** @throws CriError FAILED_PRECONDITION when the address cannot be listened on. */
  static async listen(options: StreamingServerOptions): Promise<StreamingServer> {
    const { address, port } = options;
    const server = createServer({ requestTimeout: REQUEST_TIMEOUT_MS }, (_request, response) => {
      response.writeHead(400, { "Content-Type": "text/plain", "Connection": "close" });
      response.end(
        "This URL takes SPDY/3.1 or WebSocket; upgrade the connection to one of them.\n",
      );
    });
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(port, address, resolve);
    }).catch((error) => {
      throw new CriError(
        "FAILED_PRECONDITION",
        `Cannot serve streams on ${address}, port ${port}: ${
          messageOf(error)
        }; choose another by ` +
          "--stream-addr and --stream-port.",
      );
    });
    return new StreamingServer(server, options);
  }

  /** The URL at which one client finds the command, within a minute. @throws CriError RESOURCE_EXHAUSTED */
  execUrl(wanted: StreamsWanted, run: CommandRunner): string {
    return this.#url({ kind: "exec", wanted, run });
  }

  /** As `execUrl`, for the program of a container. */
  attachUrl(wanted: StreamsWanted, run: CommandRunner): string {
    return this.#url({ kind: "attach", wanted, run });
  }

  /** As `execUrl`; the client may connect to any number of ports, one after the other or at once. */
  portForwardUrl(forward: PortForwarder): string {
    return this.#url({ kind: "portforward", forward });
  }

  /** Ends every session. Resolves when nothing is left. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.server.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    this.#webSockets.close();
    await closed;
    await Promise.all(this.#sessions);
  }

  #url(service: Service): string {
    const token = this.#pending.add(service);
    const { address, family, port } = this.server.address() as AddressInfo;
    // Who listens on all addresses is reached at the nearest one.
    const isAny = address === "0.0.0.0" || address === "::";
    const host = isAny ? "127.0.0.1" : family === "IPv6" ? `[${address}]` : address;
    return `http://${host}:${port}/${service.kind}/${token}`;
  }

  #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const [, kind, token = ""] = (request.url ?? "").split("?")[0]?.split("/") ?? [];
    const service = this.#pending.look(token);
    if (service === undefined || service.kind !== kind) {
      return refuse(socket, 404, "This URL counts once and for a minute; ask for a new one.");
    }
    if (this.#sessions.size >= MAX_SESSIONS) {
      return refuse(socket, 503, `${MAX_SESSIONS} streams are open; try again later.`);
    }
    const begin = protocolFor(request, service) ?? "nothing that is known";
    if (typeof begin === "string") {
      const offered = `${request.headers.upgrade} with ${begin}`;
      return refuse(socket, 403, `The protocol ${offered} is not served for ${kind}.`);
    }
    this.#pending.take(token);
    const session = this.#serve(service, begin, request, socket, head)
      .catch((error) => {
        this.options.log.warning("A stream broke", { kind, error: messageOf(error) });
        socket.destroy();
      })
      .finally(() => this.#sessions.delete(session));
    this.#sessions.add(session);
  }

  async #serve(
    service: Service,
    { webSocket, protocol }: Chosen,
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
  ): Promise<void> {
    const { log, limits = DEFAULT_LIMITS } = this.options;
    if (!webSocket) {
      if (head.length > 0) socket.unshift(head);
      socket.write(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n" +
          `X-Stream-Protocol-Version: ${protocol}\r\n\r\n`,
      );
      return service.kind === "portforward"
        ? await servePortForward(socket, service.forward, limits, log)
        : await serveSpdyCommand(socket, protocol, service, limits, log);
    }
    // ws takes no name with a slash in it; the header is added by the listener above.
    if (isTunnelled(request)) delete request.headers["sec-websocket-protocol"];
    const serve = (opened: WebSocket) =>
      service.kind === "portforward"
        ? servePortForward(createWebSocketStream(opened), service.forward, limits, log)
        : serveWebSocketCommand(opened, service, limits, log);
    await new Promise<void>((resolve) => {
      socket.once("close", resolve);
      // In the very callback: the first message may come right after it, and is lost without a listener.
      this.#webSockets.handleUpgrade(request, socket, head, (opened) => resolve(serve(opened)));
    });
  }
}

/** What the client and we speak. */
interface Chosen {
  webSocket: boolean;
  protocol: string;
}

/** The best protocol that the client offers and that serves its kind of stream; otherwise what it offered. */
function protocolFor(request: IncomingMessage, { kind }: Service): Chosen | string {
  const webSocket = request.headers.upgrade?.toLowerCase() === "websocket";
  const isSpdy = request.headers.upgrade?.toLowerCase() === "spdy/3.1";
  const header = webSocket ? "sec-websocket-protocol" : "x-stream-protocol-version";
  const text = String(request.headers[header] ?? "");
  const offered = new Set(text.split(",").map((name) => name.trim()));
  const served = kind === "portforward"
    ? [webSocket ? TUNNELLED_PORT_FORWARD_PROTOCOL : PORT_FORWARD_PROTOCOL]
    : webSocket
    ? WEBSOCKET_COMMAND_PROTOCOLS
    : SPDY_COMMAND_PROTOCOLS;
  const protocol = served.find((name) => offered.has(name));
  return protocol === undefined || !(webSocket || isSpdy) ? text : { webSocket, protocol };
}

function isTunnelled({ rawHeaders }: IncomingMessage): boolean {
  return rawHeaders.includes(TUNNELLED_PORT_FORWARD_PROTOCOL);
}

function refuse(socket: Duplex, code: number, sentence: string): void {
  const body = `${sentence}\n`;
  socket.end(
    `HTTP/1.1 ${code} ${STATUS_CODES[code]}\r\nConnection: close\r\nContent-Type: text/plain\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    () => socket.destroy(),
  );
}
