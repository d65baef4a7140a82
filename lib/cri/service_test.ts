import { assertEquals, assertRejects } from "@std/assert";
import { CriError } from "../base/error.ts";
import { createLogger } from "../base/log.ts";
import {
  ContainerConfig,
  ContainerStatus,
  ListContainersResponse,
  Signal,
  VersionRequest,
} from "./api.generated.ts";
import {
  backendFromHandlers,
  type CallContext,
  type CriMethod,
  decodeRequest,
  METHODS,
} from "./service.ts";

const context: CallContext = {
  signal: new AbortController().signal,
  log: createLogger({ threshold: "error", write: () => {} }),
};

function methodOf(key: string): CriMethod {
  const method = METHODS.find((each) => each.key === key);
  if (!method) throw new Error(`No RPC has the key ${key}.`);
  return method;
}

Deno.test("METHODS holds the 37 RPCs of RuntimeService and the 6 of ImageService under their paths", () => {
  const count = (service: string) => METHODS.filter((method) => method.service === service).length;
  assertEquals([count("RuntimeService"), count("ImageService")], [37, 6]);
  assertEquals(new Set(METHODS.map(({ key }) => key)).size, 43);
  assertEquals(methodOf("version").path, "/runtime.v1.RuntimeService/Version");
  assertEquals(methodOf("pullImage").path, "/runtime.v1.ImageService/PullImage");
  assertEquals(METHODS.filter((method) => method.responseStream).map((method) => method.name), [
    "StreamPodSandboxes",
    "StreamContainers",
    "StreamContainerStats",
    "StreamPodSandboxStats",
    "StreamPodSandboxMetrics",
    "GetContainerEvents",
    "StreamImages",
  ]);
});

Deno.test("backendFromHandlers() fills the fields that an answer leaves out", async () => {
  const backend = backendFromHandlers({
    listContainers: () => Promise.resolve({ containers: [{ id: "a", createdAt: 1n }] }),
  }, (name) => name);
  const bytes = await backend.unary(methodOf("listContainers"), new Uint8Array(), context);
  const [container] = ListContainersResponse.decode(bytes).containers;
  assertEquals([container?.id, container?.createdAt, container?.labels], ["a", 1n, {}]);
});

Deno.test("backendFromHandlers() keeps `this` when the handlers are methods of an object", async () => {
  class Runtime {
    name = "multicri";
    version() {
      return Promise.resolve({ runtimeName: this.name });
    }
  }
  const backend = backendFromHandlers(new Runtime(), (name) => name);
  const bytes = await backend.unary(methodOf("version"), new Uint8Array(), context);
  assertEquals(new TextDecoder().decode(bytes.subarray(2)), "multicri");
});

Deno.test("backendFromHandlers() throws UNIMPLEMENTED for streams too when there is no handler", async () => {
  const backend = backendFromHandlers({}, (name) => `No ${name}.`);
  const error = await assertRejects(
    () =>
      Array.fromAsync(backend.serverStream(methodOf("streamImages"), new Uint8Array(), context)),
    CriError,
    "No StreamImages.",
  );
  assertEquals(error.code, "UNIMPLEMENTED");
});

Deno.test("decodeRequest() throws INVALID_ARGUMENT with the RPC's name when the bytes end early", () => {
  const bytes = VersionRequest.encode({ version: "0.1.0" }).finish();
  assertEquals(
    decodeRequest(methodOf("version"), bytes),
    VersionRequest.fromPartial({ version: "0.1.0" }),
  );
  for (let length = 1; length < bytes.length; length++) {
    let code: string | undefined;
    try {
      decodeRequest(methodOf("version"), bytes.subarray(0, length));
    } catch (error) {
      code = (error as CriError).code;
    }
    assertEquals(code, "INVALID_ARGUMENT", `${length} of ${bytes.length} bytes`);
  }
});

Deno.test("a message keeps the fields it does not know when it is read and written", () => {
  const unknown = [0xfa, 0x3e, 0x03, 0x61, 0x62, 0x63]; // field 1007: "abc"
  const known = [0x0a, 0x01, 0x78]; // id: "x"
  const message = ContainerStatus.decode(Uint8Array.from([...known, ...unknown]));
  assertEquals(message.id, "x");
  const changed = ContainerStatus.encode({ ...message, id: "y" }).finish();
  assertEquals([...changed], [0x0a, 0x01, 0x79, ...unknown]);
});

Deno.test("a message keeps enum values, 64-bit numbers and bytes that doubles and UTF-8 cannot hold", () => {
  const status = ContainerStatus.fromPartial({
    createdAt: 1_764_000_000_123_456_789n,
    exitCode: -1,
  });
  const copy = ContainerStatus.decode(ContainerStatus.encode(status).finish());
  assertEquals([copy.createdAt, copy.exitCode], [1_764_000_000_123_456_789n, -1]);
  const config = ContainerConfig.fromPartial({
    stopSignal: 250 as Signal,
    envs: [{ key: "X", value: Uint8Array.of(0xff, 0, 0x80) }],
  });
  const read = ContainerConfig.decode(ContainerConfig.encode(config).finish());
  assertEquals([read.stopSignal as number, read.envs], [250, config.envs]);
});
