/** A gRPC client in wire bytes and a server to go with it, for the tests of this directory. */
import { Client, type ClientReadableStream, credentials, type ServiceError } from "@grpc/grpc-js";
import { systemClock } from "../base/clock.ts";
import { createLogger } from "../base/log.ts";
import { type CriBackend, type CriMethod, MAX_MESSAGE_BYTES, METHODS } from "../cri/service.ts";
import { toBuffer } from "../cri/wire.ts";
import { connectByUnixStream } from "../executors/unix_stream.ts";
import { type CriServer, serveCri, type ServeOptions } from "./server.ts";

/** Looks an RPC up by its name in api.proto. */
export function rpc(name: string): CriMethod {
  const method = METHODS.find((each) => each.name === name);
  if (!method) throw new Error(`No RPC is named ${name}.`);
  return method;
}

export interface CallSettings {
  /** Milliseconds from now. */
  deadline?: number;
  signal?: AbortSignal;
}

export class TestClient {
  readonly #client: Client;

  constructor(socketPath: string) {
    connectByUnixStream();
    this.#client = new Client(`unix:${socketPath}`, credentials.createInsecure(), {
      "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
      "grpc.use_local_subchannel_pool": 1, // else connections outlive the client
    });
  }

  /** Rejects with a ServiceError (code, details). */
  unary(
    name: string,
    request: Uint8Array = new Uint8Array(),
    settings: CallSettings = {},
  ): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      const call = this.#client.makeUnaryRequest(
        rpc(name).path,
        toBuffer,
        (bytes) => bytes,
        request,
        settings.deadline === undefined ? {} : { deadline: Date.now() + settings.deadline },
        (error: ServiceError | null, response?: Uint8Array) => {
          settings.signal?.removeEventListener("abort", cancel);
          if (error) reject(error);
          else resolve(new Uint8Array(response ?? []));
        },
      );
      const cancel = () => call.cancel();
      settings.signal?.addEventListener("abort", cancel, { once: true });
    });
  }

  stream(name: string, request: Uint8Array = new Uint8Array()): ClientReadableStream<Uint8Array> {
    return this.#client.makeServerStreamRequest(
      rpc(name).path,
      toBuffer,
      (bytes: Uint8Array) => bytes,
      request,
    );
  }

  close(): void {
    this.#client.close();
  }
}

export interface Served {
  client: TestClient;
  server: CriServer;
  socketPath: string;
  /** Log lines without their time. */
  lines: string[];
}

/** Serves `backend` on a fresh socket while `use` runs. */
export async function withServer(
  backend: Partial<CriBackend>,
  use: (served: Served) => Promise<void>,
  options: Partial<ServeOptions> = {},
): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "multicri-server-" });
  const socketPath = `${directory}/cri.sock`;
  const lines: string[] = [];
  const log = createLogger({
    threshold: "debug",
    write: (line) => lines.push(line.slice(line.indexOf(" ") + 1)),
  });
  const unexpected = () => {
    throw new Error("The test did not expect this call.");
  };
  const server = await serveCri({
    socketPath,
    backend: { unary: unexpected, serverStream: unexpected, ...backend },
    log,
    clock: systemClock,
    ...options,
  });
  const client = new TestClient(socketPath);
  try {
    await use({ client, server, socketPath, lines });
  } finally {
    client.close();
    await server.close();
    await Deno.remove(directory, { recursive: true });
  }
}
