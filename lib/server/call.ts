/** The one wrapper around every RPC: readiness, deadline and cancellation, the log line, error → gRPC status. */
import {
  type handleServerStreamingCall,
  type handleUnaryCall,
  type ServerUnaryCall,
  type ServerWritableStream,
  status,
} from "@grpc/grpc-js";
import type { Clock } from "../base/clock.ts";
import { CriError, messageOf } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import type { CallContext, CriBackend, CriMethod } from "../cri/service.ts";
import { Backlog } from "./backlog.ts";
import { idFields, logCall } from "./call_log.ts";
import type { OpenCalls } from "./open_calls.ts";

/**
 * Bound on the message of a status, in bytes of UTF-8. It travels in HTTP/2 trailers, percent-encoded to at
 * most three times its size, which must stay within one header frame (16,384 bytes).
 */
export const MAX_STATUS_DETAILS_BYTES = 4096;

/** What waits for a client that does not read before its stream does: some hundreds of events. */
const MAX_BACKLOG_BYTES = 1024 * 1024;
/** How often such a client is looked at; nothing tells when it reads again. */
const BACKLOG_INTERVAL_MS = 50;

/** Timers may fire this much before the time they were set for. */
const TIMER_SLACK_MS = 5;

/** What the wrapper needs of the server around it. */
export interface CallEnvironment {
  readonly backend: CriBackend;
  readonly log: Logger;
  readonly clock: Clock;
  readonly openCalls: OpenCalls;
  /** Why no call can be answered now; undefined when they can. */
  readonly refusal: () => CriError | undefined;
}

/** Answers a unary RPC with what the backend gives for its bytes. Never rejects. */
export function unaryHandler(
  method: CriMethod,
  environment: CallEnvironment,
): handleUnaryCall<Uint8Array, Uint8Array> {
  return async (call, callback) => {
    const open = new OpenCall(method, call, environment);
    const { response, error } = await open.answer(() =>
      environment.backend.unary(method, call.request, open.context)
    );
    open.respond(() => error ? callback(toStatus(error)) : callback(null, response));
    open.end(error, response);
  };
}

/**
 * Answers a server-streaming RPC, one message at a time: the next is asked of the backend once the client has taken
 * most of the last ones (see `Backlog`). Never rejects.
 */
export function streamHandler(
  method: CriMethod,
  environment: CallEnvironment,
): handleServerStreamingCall<Uint8Array, Uint8Array> {
  return async (call) => {
    const open = new OpenCall(method, call, environment);
    const { signal } = open.context;
    const backlog = new Backlog(call);
    const { error } = await open.answer(async () => {
      const answers = environment.backend.serverStream(method, call.request, open.context);
      for await (const bytes of answers) {
        signal.throwIfAborted();
        await write(call, bytes, signal);
        backlog.add(bytes.length);
        while (backlog.bytes > MAX_BACKLOG_BYTES) {
          await environment.clock.sleep(BACKLOG_INTERVAL_MS, signal);
        }
      }
      signal.throwIfAborted();
    });
    open.respond(() => error ? call.emit("error", toStatus(error)) : call.end());
    open.end(error);
  };
}

/** gRPC code and a message that is fit for trailers: well-formed and bounded. */
export function toStatus(error: CriError): { code: status; details: string } {
  const bytes = new Uint8Array(MAX_STATUS_DETAILS_BYTES);
  // Whole characters only; a lone surrogate, which cannot be percent-encoded, becomes U+FFFD.
  const { read, written } = new TextEncoder().encodeInto(error.message, bytes);
  const text = new TextDecoder().decode(bytes.subarray(0, written));
  return {
    code: status[error.code],
    details: read < error.message.length ? `${text} …` : text,
  };
}

/** One call from its arrival to its log line. */
class OpenCall {
  readonly context: CallContext;
  /** The client cancelled or its deadline passed: grpc-js has ended the call, and no answer can be sent. */
  #clientGone = false;
  readonly #startMs: number;
  readonly #log: Logger;
  readonly #controller: AbortController;
  readonly #onCancelled = () => this.#cancel();

  constructor(
    private readonly method: CriMethod,
    private readonly call:
      | ServerUnaryCall<Uint8Array, Uint8Array>
      | ServerWritableStream<Uint8Array, Uint8Array>,
    private readonly environment: CallEnvironment,
  ) {
    this.#startMs = environment.clock.now();
    this.#controller = environment.openCalls.open(method);
    this.#log = environment.log.with(idFields(method.request, call.request));
    const deadline = Number(call.getDeadline());
    this.context = {
      signal: this.#controller.signal,
      log: this.#log.with({ rpc: method.name }),
      ...(Number.isFinite(deadline) ? { deadlineMs: deadline } : {}),
    };
    call.on("cancelled", this.#onCancelled);
    if (call.cancelled) this.#cancel();
  }

  /** The result of `work`, or what it threw; it is not begun when calls are refused or the client is gone. */
  async answer<T>(work: () => Promise<T>): Promise<{ response?: T; error?: CriError }> {
    try {
      this.context.signal.throwIfAborted();
      const refusal = this.environment.refusal();
      if (refusal) throw refusal;
      return { response: await work() };
    } catch (thrown) {
      return { error: CriError.from(thrown) };
    }
  }

  /** Sends the answer unless the client is gone. */
  respond(send: () => void): void {
    if (this.#clientGone) return;
    try {
      send();
    } catch (error) {
      // The connection broke in this moment; there is no one left to tell.
      this.context.log.debug("Answer not delivered", { reason: messageOf(error) });
    }
  }

  /** Ends the books on the call: the log line, and no more abort. */
  end(error?: CriError, response?: Uint8Array): void {
    this.call.off("cancelled", this.#onCancelled);
    this.environment.openCalls.close(this.#controller);
    // An answer that came after the client had gone was not received.
    const gone = this.#clientGone ? CriError.from(this.context.signal.reason) : undefined;
    const outcome = gone ?? error;
    logCall(this.#log, {
      method: this.method,
      durationMs: Math.round(this.environment.clock.now() - this.#startMs),
      ...(outcome ? { error: outcome } : {}),
      // What was under way may tell more than that the client did not wait for it.
      ...(gone && error && error.message !== gone.message ? { interrupted: error.message } : {}),
      ...(response ? { response } : {}),
    });
  }

  #cancel(): void {
    this.#clientGone = true;
    const { deadlineMs } = this.context;
    const late = deadlineMs !== undefined &&
      this.environment.clock.now() + TIMER_SLACK_MS >= deadlineMs;
    this.#controller.abort(
      late
        ? new DOMException("its deadline passed", "TimeoutError")
        : new DOMException("the client cancelled it", "AbortError"),
    );
  }
}

/** Rejects when `signal` aborts, because grpc-js calls back no more once the client is gone. */
function write(
  call: ServerWritableStream<Uint8Array, Uint8Array>,
  bytes: Uint8Array,
  signal: AbortSignal,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    call.write(bytes, (error: Error | null | undefined) => {
      signal.removeEventListener("abort", onAbort);
      if (error) reject(error);
      else resolve();
    });
  });
}
