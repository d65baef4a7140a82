// @ts-types="@types/ws"
import type { WebSocket } from "ws";
import { messageOf } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import { ByteQueue } from "./byte_queue.ts";
import { IdleTimer, type SessionLimits } from "./limits.ts";
import type { ByteSink } from "./process.ts";
import { type CommandService, drop, serveCommand } from "./remote_command.ts";
import { TerminalSizes } from "./terminal_sizes.ts";

/** Versions of the protocol, best first: in v5 a client can half-close stdin. */
export const WEBSOCKET_COMMAND_PROTOCOLS = ["v5.channel.k8s.io", "v4.channel.k8s.io"] as const;

/** What the first byte of each message says (client-go, tools/remotecommand/websocket.go). */
const CHANNEL = { stdin: 0, stdout: 1, stderr: 2, error: 3, resize: 4, close: 255 } as const;

/** What is held of stdin; beyond that no more messages are read. */
const MAX_HELD_BYTES = 256 * 1024;
/** RFC 6455, 7.4.1. */
const CLOSE_NORMAL = 1000;
const CLOSE_UNSUPPORTED = 1003;

/** Serves Exec or Attach on a WebSocket: each binary message is a piece of the stream that its first byte names. */
export async function serveWebSocketCommand(
  socket: WebSocket,
  service: CommandService,
  limits: SessionLimits,
  log: Logger,
): Promise<void> {
  const gone = new AbortController();
  const idle = new IdleTimer(limits.idleMs, () => socket.terminate());
  const stdin = new ByteQueue(MAX_HELD_BYTES);
  const resizes = new TerminalSizes();
  if (!service.wanted.stdin) stdin.end();
  if (!service.wanted.tty) resizes.end();
  const end = (reason: string) => {
    idle.close();
    resizes.end();
    const error = new Error(reason);
    stdin.fail(error);
    gone.abort(error);
  };
  socket.on("error", (error) => end(messageOf(error)));
  const closed = new Promise<void>((resolve) =>
    socket.once("close", () => {
      end("The client closed the connection.");
      resolve();
    })
  );
  socket.on("message", (data, isBinary) => {
    idle.touch();
    if (!isBinary || !(data instanceof Uint8Array)) {
      return socket.close(CLOSE_UNSUPPORTED, "messages must be binary");
    }
    const payload = data.subarray(1);
    switch (data[0]) {
      case CHANNEL.stdin:
        socket.pause();
        stdin.push(payload).then(() => socket.resume());
        return;
      case CHANNEL.resize:
        return resizes.add(payload);
      case CHANNEL.close:
        if (socket.protocol === WEBSOCKET_COMMAND_PROTOCOLS[0] && payload[0] === CHANNEL.stdin) {
          stdin.end();
        }
        return;
    }
  });

  const send = (channel: number): ByteSink => (piece) => {
    idle.touch();
    const message = new Uint8Array(piece.length + 1);
    message[0] = channel;
    message.set(piece, 1);
    return new Promise((resolve, reject) => {
      socket.send(message, { binary: true }, (error) => error ? reject(error) : resolve());
    });
  };
  const { wanted } = service;
  await serveCommand(service, {
    statusAsJson: true,
    stdin,
    resizes,
    stdout: wanted.stdout ? send(CHANNEL.stdout) : drop,
    stderr: wanted.stderr && !wanted.tty ? send(CHANNEL.stderr) : drop,
    status: send(CHANNEL.error),
    signal: gone.signal,
  }, log);
  await stdin.return();
  socket.close(CLOSE_NORMAL);
  await closed;
}
