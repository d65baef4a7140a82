/** A streaming server for tests, with programs of this machine to run. */
import { connect } from "node:net";
import { createLogger } from "../base/log.ts";
import { DEFAULT_LIMITS, type SessionLimits } from "./limits.ts";
import type { ByteSink, CommandRunner, PortForwarder } from "./process.ts";
import { StreamingServer } from "./server.ts";

const SILENT = createLogger({ threshold: "error", write: () => {} });

/** Runs `use` with a server on a free port and closes it. */
export async function withServer(
  use: (server: StreamingServer) => Promise<void>,
  limits: Partial<SessionLimits> = {},
): Promise<void> {
  const server = await StreamingServer.listen({
    address: "127.0.0.1",
    port: 0,
    log: SILENT,
    limits: { ...DEFAULT_LIMITS, ...limits },
  });
  try {
    await use(server);
  } finally {
    await server.close();
  }
}

/** A runner of a local program; it is killed when the client goes. */
export function runProgram(program: string, ...args: string[]): CommandRunner {
  return async ({ stdin, stdout, stderr }, signal) => {
    const child = new Deno.Command(program, {
      args,
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const kill = () => child.kill("SIGKILL");
    signal.addEventListener("abort", kill);
    const input = (async () => {
      const writer = child.stdin.getWriter();
      try {
        for await (const piece of stdin) await writer.write(piece);
        await writer.close();
      } catch {
        await writer.abort().catch(() => {});
      }
    })();
    const copy = async (from: ReadableStream<Uint8Array>, to: ByteSink) => {
      for await (const piece of from) await to(piece).catch(() => {});
    };
    const [status] = await Promise.all([
      child.status,
      copy(child.stdout, stdout),
      copy(child.stderr, stderr),
    ]);
    signal.removeEventListener("abort", kill);
    await stdin.return?.();
    await input;
    return status.code;
  };
}

/** A port of this machine that sends back what comes, and a forwarder to ports of this machine. */
export function echoPort(): AsyncDisposable & { number: number; forward: PortForwarder } {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const serving = (async () => {
    for await (const connection of listener) {
      connection.readable.pipeTo(connection.writable).catch(() => {});
    }
  })();
  return {
    number: (listener.addr as Deno.NetAddr).port,
    forward: async (port, { incoming, outgoing, endOutgoing }, signal) => {
      const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
      const connected = Promise.withResolvers<void>();
      socket.once("connect", () => connected.resolve());
      socket.on("error", (error) => connected.reject(error));
      signal.addEventListener("abort", () => socket.destroy());
      await connected.promise;
      const up = (async () => {
        for await (const piece of incoming) socket.write(piece);
        socket.end();
      })();
      up.catch(() => {
        // The client is gone, which the other direction tells.
      });
      for await (const piece of socket.iterator({ destroyOnReturn: false })) await outgoing(piece);
      await endOutgoing();
      await up;
    },
    async [Symbol.asyncDispose]() {
      listener.close();
      await serving;
    },
  };
}
