import type { Duplex } from "node:stream";
import type { Logger } from "../base/log.ts";
import { ByteQueue } from "./byte_queue.ts";
import { IdleTimer, inTime, type SessionLimits } from "./limits.ts";
import { type CommandService, drop, serveCommand } from "./remote_command.ts";
import { SpdyConnection, type SpdyStream } from "./spdy_connection.ts";
import { TerminalSizes } from "./terminal_sizes.ts";

/** Versions of the protocol, best first; the newer one, v5, is WebSocket's. */
export const SPDY_COMMAND_PROTOCOLS = [
  "v4.channel.k8s.io",
  "v3.channel.k8s.io",
  "v2.channel.k8s.io",
  "channel.k8s.io",
] as const;
/** Terminals have sizes from v3 on. */
const WITH_RESIZE: ReadonlySet<string> = new Set(SPDY_COMMAND_PROTOCOLS.slice(0, 2));

/**
 * Serves Exec or Attach on an SPDY connection: the client opens a stream for each of error, stdin, stdout, stderr and
 * resize that it wants, named by the header `streamtype`; then the process runs.
 */
export async function serveSpdyCommand(
  transport: Duplex,
  protocol: string,
  service: CommandService,
  limits: SessionLimits,
  log: Logger,
): Promise<void> {
  const { stdin, stdout, stderr, tty } = service.wanted;
  const expected = new Set(["error"]);
  if (stdin) expected.add("stdin");
  if (stdout) expected.add("stdout");
  if (stderr && !tty) expected.add("stderr");
  if (tty && WITH_RESIZE.has(protocol)) expected.add("resize");
  const streams = new Map<string, SpdyStream>();
  const complete = Promise.withResolvers<void>();
  const onStream = (stream: SpdyStream) => {
    const type = stream.headers.get("streamtype") ?? "";
    if (!expected.has(type) || streams.has(type)) return false;
    streams.set(type, stream);
    if (streams.size === expected.size) complete.resolve();
    return true;
  };
  const idle = new IdleTimer(limits.idleMs, () => connection.destroy(new Error("It was idle.")));
  const connection = new SpdyConnection(transport, onStream, () => idle.touch());
  connection.signal.addEventListener("abort", () => idle.close());
  if (!await inTime(complete.promise, limits.creationMs, connection.signal)) {
    return connection.destroy(new Error("The client did not open its streams in time."));
  }

  const resizes = new TerminalSizes();
  const sizes = streams.get("resize")?.incoming;
  if (sizes === undefined) resizes.end();
  else {
    copySizes(sizes, resizes).catch(() => {
      // The client is gone; the process ends by the signal.
    });
  }
  const nothing = new ByteQueue(0);
  nothing.end();
  const sink = (name: string) => {
    const stream = streams.get(name);
    return stream === undefined ? drop : (piece: Uint8Array) => stream.write(piece);
  };
  await serveCommand(service, {
    statusAsJson: protocol === SPDY_COMMAND_PROTOCOLS[0],
    stdin: streams.get("stdin")?.incoming ?? nothing,
    resizes,
    stdout: sink("stdout"),
    stderr: sink("stderr"),
    status: async (text) => {
      for (const name of ["stdout", "stderr"]) await streams.get(name)?.end();
      await streams.get("error")?.write(text);
      await streams.get("error")?.end();
    },
    signal: connection.signal,
  }, log);
  await connection.close();
}

async function copySizes(from: AsyncIterable<Uint8Array>, to: TerminalSizes): Promise<void> {
  try {
    for await (const piece of from) to.add(piece);
  } finally {
    to.end();
  }
}
