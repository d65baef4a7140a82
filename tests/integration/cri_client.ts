import { credentials, makeGenericClientConstructor, type ServiceError } from "@grpc/grpc-js";
import { METHODS } from "../../lib/cri/service.ts";
import { toBuffer } from "../../lib/server/call.ts";
import type { Harness } from "./harness.ts";

/** Calls a unary RPC of the RuntimeService by its name in api.proto. Rejects with the ServiceError. */
export async function callRuntime(
  harness: Harness,
  rpc: string,
  request: Record<string, unknown>,
  // deno-lint-ignore no-explicit-any
): Promise<any> {
  const method = METHODS.find(({ service, name }) => service === "RuntimeService" && name === rpc);
  if (method === undefined) throw new Error(`there is no RPC ${rpc}`);
  const encode = (codec: typeof method.request) => (message: unknown) =>
    toBuffer(codec.encode(codec.fromPartial(message as never)).finish());
  const Client = makeGenericClientConstructor({
    call: {
      path: method.path,
      requestStream: false,
      responseStream: false,
      requestSerialize: encode(method.request),
      requestDeserialize: (bytes) => method.request.decode(bytes),
      responseSerialize: encode(method.response),
      responseDeserialize: (bytes) => method.response.decode(bytes),
    },
  }, "RuntimeService");
  const socket = harness.lab.path("knode", harness.server.socketPath);
  const client = new Client(`unix:${socket}`, credentials.createInsecure());
  try {
    return await new Promise((resolve, reject) => {
      client["call"]?.(
        request,
        (error: ServiceError | null, response: unknown) =>
          error ? reject(error) : resolve(response),
      );
    });
  } finally {
    client.close();
  }
}
