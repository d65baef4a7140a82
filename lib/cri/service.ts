/**
 * The RPCs of CRI v1 as values, and the two ways to answer them: in wire bytes ({@linkcode CriBackend}, which a
 * router can pass through unread) and as typed functions ({@linkcode CriHandlers}).
 */
import { CriError, messageOf } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import {
  type DeepPartial,
  ImageServiceDefinition,
  type MessageFns,
  RuntimeServiceDefinition,
} from "./api.generated.ts";

/** Bound on one message, either way: the kubelet's own for what it receives, and containerd's for both. */
export const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

/** One RPC of CRI v1. */
export interface CriMethod {
  readonly service: "RuntimeService" | "ImageService";
  /** As in api.proto, e.g. "RunPodSandbox". */
  readonly name: string;
  /** Key of its handler in {@linkcode CriHandlers}, e.g. "runPodSandbox". */
  readonly key: RpcKey;
  /** HTTP/2 path, e.g. "/runtime.v1.RuntimeService/RunPodSandbox". */
  readonly path: string;
  readonly request: MessageFns<unknown>;
  readonly response: MessageFns<unknown>;
  /** Answered by any number of messages instead of one. */
  readonly responseStream: boolean;
}

/** What comes with every call. */
export interface CallContext {
  /** Aborts when the client cancelled, its deadline passed, or the server is made to end. */
  readonly signal: AbortSignal;
  /** Adds the call's own fields to each line. */
  readonly log: Logger;
  /** The client's deadline in milliseconds since the Unix epoch; absent when it set none. */
  readonly deadlineMs?: number;
}

/**
 * Answers every RPC of CRI v1 in wire bytes. Whatever it throws becomes a gRPC status by `CriError.from`.
 */
export interface CriBackend {
  /** For methods without `responseStream`. */
  unary(method: CriMethod, request: Uint8Array, context: CallContext): Promise<Uint8Array>;
  /** For methods with `responseStream`; its `return()` is called when the client goes away. */
  serverStream(
    method: CriMethod,
    request: Uint8Array,
    context: CallContext,
  ): AsyncIterable<Uint8Array>;
}

const SERVICES = { RuntimeService: RuntimeServiceDefinition, ImageService: ImageServiceDefinition };

type MethodDefinitions =
  & typeof RuntimeServiceDefinition.methods
  & typeof ImageServiceDefinition.methods;

/** Names of the RPCs in camelCase; no name is in both services. */
export type RpcKey = keyof MethodDefinitions;

/** The message that RPC `K` takes. */
export type RequestOf<K extends RpcKey> = MessageOf<MethodDefinitions[K]["requestType"]>;

/** The message that RPC `K` answers with. */
export type ResponseOf<K extends RpcKey> = MessageOf<MethodDefinitions[K]["responseType"]>;

type MessageOf<Codec> = Codec extends MessageFns<infer Message> ? Message : never;

/**
 * One function an RPC. Answers may leave out fields, which then have their default (zero, empty, absent).
 * `signal` and deadline are in the context; errors are thrown as {@linkcode CriError}.
 */
export type CriHandlers = {
  [K in RpcKey]: (
    request: RequestOf<K>,
    context: CallContext,
  ) => MethodDefinitions[K]["responseStream"] extends true
    ? AsyncIterable<DeepPartial<ResponseOf<K>>>
    : Promise<DeepPartial<ResponseOf<K>>>;
};

/** All RPCs of CRI v1, those of RuntimeService first, in the order of api.proto. */
export const METHODS: readonly CriMethod[] = Object.entries(SERVICES).flatMap(
  ([service, { fullName, methods }]) =>
    Object.entries(methods).map(([key, method]) => ({
      service: service as CriMethod["service"],
      name: method.name,
      key: key as RpcKey,
      path: `/${fullName}/${method.name}`,
      request: method.requestType,
      response: method.responseType,
      responseStream: method.responseStream,
    })),
);

const METHOD_OF = new Map(METHODS.map((method) => [method.key, method]));

/** The RPC with a key. */
export function methodOf(key: RpcKey): CriMethod {
  const method = METHOD_OF.get(key);
  if (method === undefined) throw new TypeError(`CRI v1 has no RPC ${key}`);
  return method;
}

/**
 * A backend over typed functions. A request that is no message of its type is INVALID_ARGUMENT; an RPC
 * without a handler is UNIMPLEMENTED with the sentence that `unimplemented` gives for its name in api.proto.
 */
export function backendFromHandlers(
  handlers: Partial<CriHandlers>,
  unimplemented: (rpc: string) => string,
): CriBackend {
  // The mapped type cannot be indexed by a key known at run time only; METHODS and CriHandlers come from the
  // same definitions, so that key, messages and kind of answer belong together.
  type AnyHandler = (request: unknown, context: CallContext) => unknown;
  const handlerOf = (method: CriMethod): AnyHandler => {
    const handler = handlers[method.key];
    if (!handler) throw new CriError("UNIMPLEMENTED", unimplemented(method.name));
    return handler.bind(handlers) as AnyHandler;
  };
  const encode = (method: CriMethod, answer: unknown) =>
    method.response.encode(method.response.fromPartial(answer as DeepPartial<unknown>)).finish();
  return {
    async unary(method, request, context) {
      const handler = handlerOf(method);
      return encode(method, await handler(decodeRequest(method, request), context));
    },
    async *serverStream(method, request, context) {
      const handler = handlerOf(method);
      const answers = handler(decodeRequest(method, request), context);
      for await (const answer of answers as AsyncIterable<unknown>) yield encode(method, answer);
    },
  };
}

/** @throws CriError INVALID_ARGUMENT when the bytes are no such message. */
export function decodeRequest(method: CriMethod, bytes: Uint8Array): unknown {
  try {
    return method.request.decode(bytes);
  } catch (error) {
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot read the request of ${method.name}: its ${bytes.length} bytes must be the protobuf message ` +
        `that CRI v1 defines, but decoding them failed: ${messageOf(error)}`,
      { cause: error },
    );
  }
}
