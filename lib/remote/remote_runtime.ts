import {
  Client,
  type ClientReadableStream,
  credentials,
  type ServiceError,
  status,
} from "@grpc/grpc-js";
import type { Buffer } from "node:buffer";
import type { Clock } from "../base/clock.ts";
import { type CriCode, CriError, messageOf } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import type { RemoteEndpoint } from "../config/remotes.ts";
import { StatusResponse } from "../cri/api.generated.ts";
import {
  type CallContext,
  type CriBackend,
  type CriMethod,
  MAX_MESSAGE_BYTES,
  methodOf,
} from "../cri/service.ts";
import { connectByUnixStream } from "../executors/unix_stream.ts";
import { isMessage, toBuffer } from "../cri/wire.ts";

/** How a runtime is looked at. */
export interface Heartbeat {
  /** Between two looks; a look costs the runtime a fraction of a millisecond. */
  everyMs: number;
  /**
   * A runtime that does not tell its status within this is taken for hanging, and whatever waits for it is given
   * up. Ten seconds unless told, because a node that pulls and unpacks many images can be that slow.
   */
  hangingAfterMs: number;
}

const HEARTBEAT: Heartbeat = { everyMs: 1_000, hangingAfterMs: 10_000 };

/** When a broken connection is tried again: a runtime that is restarted is back within a second. */
const FIRST_RECONNECT_MS = 100;
const MAX_RECONNECT_MS = 1_000;

/**
 * What is known of a remote runtime:
 *
 *     connecting ──→ up ⇄ down      nobody answers at its socket, or not as a CRI runtime does
 *                     ⇅   ⇅
 *                    hanging        it takes calls and does not answer
 */
export type RemoteState =
  | { kind: "connecting" }
  | { kind: "up" }
  | { kind: "down" | "hanging"; error: string };

/**
 * Another CRI runtime behind its unix socket. Calls pass as wire bytes; what goes wrong between it and us is
 * UNAVAILABLE with its name, its own errors are passed on word for word.
 */
export class RemoteRuntime implements CriBackend {
  readonly name: string;
  readonly socketPath: string;
  readonly #client: Client;
  readonly #closed = new AbortController();
  readonly #listeners = new Set<(state: RemoteState) => void>();
  readonly #calls = new Set<(reason: CriError) => void>();
  #state: RemoteState = { kind: "connecting" };
  #status: StatusResponse | undefined;
  #heart: Promise<void> | undefined;

  constructor(
    { name, socketPath }: RemoteEndpoint,
    private readonly clock: Clock,
    private readonly log: Logger,
    private readonly heartbeat: Heartbeat = HEARTBEAT,
  ) {
    this.name = name;
    this.socketPath = socketPath;
    connectByUnixStream();
    this.#client = new Client(`unix:${socketPath}`, credentials.createInsecure(), {
      "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
      "grpc.max_send_message_length": MAX_MESSAGE_BYTES,
      "grpc.initial_reconnect_backoff_ms": FIRST_RECONNECT_MS,
      "grpc.min_reconnect_backoff_ms": FIRST_RECONNECT_MS,
      "grpc.max_reconnect_backoff_ms": MAX_RECONNECT_MS,
      // Else a connection would outlive its client.
      "grpc.use_local_subchannel_pool": 1,
      // A proxy repeats nothing by itself: its client decides.
      "grpc.enable_retries": 0,
    });
  }

  get state(): RemoteState {
    return this.#state;
  }

  /** Its latest Status, also while it is down; undefined until it was up once. */
  get lastStatus(): StatusResponse | undefined {
    return this.#status;
  }

  /** Begins to look at it once a second. Resolves after the first look. */
  async start(): Promise<void> {
    await this.#look();
    this.#heart ??= this.#beat();
  }

  /** Calls `listener` with each new kind of state, until the returned function is called. */
  onChange(listener: (state: RemoteState) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {
    this.#closed.abort();
    await this.#heart;
    this.#giveUp(this.#unavailable("multicri is shutting down"));
    this.#client.close();
  }

  unary(method: CriMethod, request: Uint8Array, context: CallContext): Promise<Uint8Array> {
    if (this.#state.kind === "hanging") {
      return Promise.reject(this.#unavailable(this.#state.error));
    }
    return this.#unary(method, request, context);
  }

  #unary(
    method: CriMethod,
    request: Uint8Array,
    { signal, deadlineMs }: Pick<CallContext, "signal" | "deadlineMs">,
  ): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason);
      const end = () => {
        signal.removeEventListener("abort", cancelled);
        this.#calls.delete(giveUp);
      };
      const call = this.#client.makeUnaryRequest(
        method.path,
        toBuffer,
        (bytes: Buffer) => bytes,
        request,
        callOptions(deadlineMs),
        (error: ServiceError | null, response?: Buffer) => {
          end();
          if (error) reject(this.#translate(error));
          else if (response && isMessage(response)) resolve(response);
          else reject(this.#unavailable(`its answer to ${method.name} is no protobuf message`));
        },
      );
      // Rejected before the call is: what grpc-js makes of a cancelled call says less.
      const cancelled = () => {
        reject(signal.reason);
        call.cancel();
      };
      const giveUp = (reason: CriError) => {
        reject(reason);
        call.cancel();
      };
      signal.addEventListener("abort", cancelled, { once: true });
      this.#calls.add(giveUp);
    });
  }

  async *serverStream(
    method: CriMethod,
    request: Uint8Array,
    { signal, deadlineMs }: CallContext,
  ): AsyncGenerator<Uint8Array> {
    if (this.#state.kind === "hanging") throw this.#unavailable(this.#state.error);
    signal.throwIfAborted();
    const call: ClientReadableStream<Buffer> = this.#client.makeServerStreamRequest(
      method.path,
      toBuffer,
      (bytes: Buffer) => bytes,
      request,
      callOptions(deadlineMs),
    );
    let reason: unknown;
    const cancelled = () => {
      reason = signal.reason;
      call.cancel();
    };
    const giveUp = (error: CriError) => {
      reason = error;
      call.cancel();
    };
    signal.addEventListener("abort", cancelled, { once: true });
    this.#calls.add(giveUp);
    try {
      for await (const bytes of call) {
        if (!isMessage(bytes)) {
          throw this.#unavailable(`a message of its ${method.name} is no protobuf message`);
        }
        yield bytes;
      }
      if (reason !== undefined) throw reason;
    } catch (error) {
      throw reason ?? (isServiceError(error) ? this.#translate(error) : error);
    } finally {
      signal.removeEventListener("abort", cancelled);
      this.#calls.delete(giveUp);
      call.cancel();
    }
  }

  async #beat(): Promise<void> {
    const { signal } = this.#closed;
    while (!signal.aborted) {
      await this.clock.sleep(this.heartbeat.everyMs, signal).catch(() => {});
      if (!signal.aborted) await this.#look();
    }
  }

  async #look(): Promise<void> {
    const { signal } = this.#closed;
    const { hangingAfterMs } = this.heartbeat;
    const deadlineMs = this.clock.now() + hangingAfterMs;
    try {
      const bytes = await this.#unary(methodOf("status"), new Uint8Array(), { signal, deadlineMs });
      this.#status = StatusResponse.decode(bytes);
      this.#become({ kind: "up" });
    } catch (error) {
      if (signal.aborted) return;
      const { code } = CriError.from(error);
      this.#become(
        code === "DEADLINE_EXCEEDED"
          ? { kind: "hanging", error: `it has said nothing for ${hangingAfterMs / 1000} s` }
          : { kind: "down", error: messageOf(error) },
      );
    }
  }

  #become(state: RemoteState): void {
    const changed = state.kind !== this.#state.kind;
    this.#state = state;
    if (!changed) return;
    const fields = { runtime: this.name, socket: this.socketPath };
    if (state.kind === "up") this.log.info("A remote runtime answers", fields);
    else if ("error" in state) {
      this.log.warning("A remote runtime does not answer", { ...fields, error: state.error });
    }
    if (state.kind === "hanging") this.#giveUp(this.#unavailable(state.error));
    for (const listener of [...this.#listeners]) listener(state);
  }

  #giveUp(reason: CriError): void {
    for (const giveUp of [...this.#calls]) giveUp(reason);
  }

  #translate(error: ServiceError): CriError {
    const code = status[error.code] as CriCode;
    if (isTransport(error.details)) return this.#unavailable(plainWords(error.details));
    // Who is unavailable is the question then.
    const words = code === "UNAVAILABLE"
      ? `The runtime '${this.name}': ${error.details}`
      : error.details;
    return new CriError(code, words, { runtime: this.name });
  }

  #unavailable(why: string): CriError {
    return new CriError(
      "UNAVAILABLE",
      why.startsWith("The runtime '")
        ? why
        : `The runtime '${this.name}' at ${this.socketPath} does not answer: ${why}.`,
    );
  }
}

/**
 * The sentences of grpc-js itself, when a call ends without a status of the runtime's (subchannel-call.js,
 * load-balancing-call.js, load-balancer-pick-first.js of 1.14, and node's own of a socket). Their codes are INTERNAL,
 * CANCELLED and UNKNOWN as well as UNAVAILABLE, and a runtime uses all of these for errors of its own.
 */
const TRANSPORT = new RegExp(
  `^(${
    [
      "Received RST_STREAM with code \\d",
      "Received HTTP status code \\d",
      "Stream refused by server$",
      "Connection dropped$",
      "Call cancelled$",
      "Write error: ",
      "Write failed with error ",
      "Failed to start HTTP/2 stream with error ",
      "No status information received$",
      "No connection established",
      "Channel has been shut down",
      "(read|write|connect) E[A-Z]+",
    ].join("|")
  })`,
);

/** Whether an error tells of the way to the runtime, by its details. */
export function isTransport(details: string): boolean {
  return TRANSPORT.test(details);
}

/** Without what grpc-js says around the reason. */
function plainWords(details: string): string {
  return /Last error: (?:Error: )?(.*?)\. Resolution note:/s.exec(details)?.[1] ?? details;
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && "details" in error;
}

function callOptions(deadlineMs: number | undefined): { deadline?: number } {
  return deadlineMs === undefined ? {} : { deadline: deadlineMs };
}
