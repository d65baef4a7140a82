import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { delay } from "@std/async/delay";
import { systemClock } from "../base/clock.ts";
import { CriError } from "../base/error.ts";
import { createLogger } from "../base/log.ts";
import { until } from "../base/test_until.ts";
import { ContainerStatusRequest, VersionResponse } from "../cri/api.generated.ts";
import {
  backendFromHandlers,
  type CallContext,
  type CriBackend,
  type CriHandlers,
  MAX_MESSAGE_BYTES,
  methodOf,
  type RpcKey,
} from "../cri/service.ts";
import { field } from "../cri/wire.ts";
import { type CriServer, serveCri } from "../server/server.ts";
import { isTransport, RemoteRuntime } from "./remote_runtime.ts";

/** So that a runtime that hangs is found out soon. */
const HEARTBEAT = { everyMs: 20, hangingAfterMs: 200 };

/** grpc-js holds a timer until its next try to connect, also when its client was closed. */
const RECONNECT_MS = 1_300;

const log = createLogger({ threshold: "error", write: () => {} });
const CONTEXT: CallContext = { signal: new AbortController().signal, log };

interface Served {
  remote: RemoteRuntime;
  socketPath: string;
  /** Serves these on the runtime's socket, instead of what was there. */
  serve(backend: CriBackend | Partial<CriHandlers>): Promise<void>;
  stop(): Promise<void>;
  call(key: RpcKey, request?: Uint8Array, context?: Partial<CallContext>): Promise<Uint8Array>;
}

async function withRemote(use: (served: Served) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "multicri-remote-" });
  const socketPath = `${directory}/cri.sock`;
  const remote = new RemoteRuntime({ name: "crio", socketPath }, systemClock, log, HEARTBEAT);
  let server: CriServer | undefined;
  const stop = async () => {
    await server?.close();
    server = undefined;
  };
  try {
    await use({
      remote,
      socketPath,
      async serve(backend) {
        await stop();
        const whole = "unary" in backend
          ? backend as CriBackend
          : backendFromHandlers({ status: () => Promise.resolve({}), ...backend }, (rpc) => rpc);
        server = await serveCri({ socketPath, backend: whole, log, clock: systemClock });
      },
      stop,
      call: (key, request = new Uint8Array(), context = {}) =>
        remote.unary(methodOf(key), request, { ...CONTEXT, ...context }),
    });
  } finally {
    await remote.close();
    await stop();
    await delay(RECONNECT_MS);
    await Deno.remove(directory, { recursive: true });
  }
}

async function unavailable(work: Promise<unknown>): Promise<void> {
  const error = await assertRejects(() => work, CriError, "'crio'");
  assertEquals(error.code, "UNAVAILABLE");
}

const DETAILS: [details: string, isWay: boolean][] = [
  ["Received RST_STREAM with code 2 (Internal server error)", true],
  ["Received HTTP status code 502", true],
  ["Connection dropped", true],
  ["No connection established. Last error: connect ENOENT /run/x.sock", true],
  ["read ECONNRESET", true],
  ["Write error: write EPIPE", true],
  ["runc create failed: unable to join session keyring: disk quota exceeded", false],
  ["pinging container registry quay.io: received unexpected HTTP status: 503", false],
  ["failed to copy: httpReadSeeker: http2: server sent GOAWAY and closed the connection", false],
  ["failed to mount: protocol error", false],
  ["server is not initialized yet", false],
  ["dial tcp: connect: connection refused", false],
];
for (const [details, isWay] of DETAILS) {
  Deno.test(`isTransport() says ${isWay} of ${details}`, () => {
    assertEquals(isTransport(details), isWay);
  });
}

Deno.test("RemoteRuntime goes down and comes back with the runtime", () =>
  withRemote(async ({ remote, serve, stop, call }) => {
    const states: string[] = [];
    remote.onChange(({ kind }) => states.push(kind));
    await remote.start();
    assertEquals(remote.state.kind, "down");
    await unavailable(call("version"));
    await serve({ version: () => Promise.resolve({ runtimeName: "it" }) });
    await until(() => remote.state.kind === "up");
    assertEquals(VersionResponse.decode(await call("version")).runtimeName, "it");
    await stop();
    await until(() => remote.state.kind === "down");
    assertEquals(remote.lastStatus?.runtimeHandlers, []);
    assertEquals(states, ["down", "up", "down"]);
  }));

Deno.test("RemoteRuntime.unary() passes unknown fields and the runtime's own errors on", () =>
  withRemote(async ({ serve, call }) => {
    // Field 1000 with a varint: nobody knows it.
    const odd = Uint8Array.of(0xc0, 0x3e, 0x07);
    await serve({
      unary: (method, request) => {
        if (method.key === "version") return Promise.resolve(request);
        throw new CriError("NOT_FOUND", 'no "such" thing: 100 %');
      },
      serverStream: () => {
        throw new CriError("UNIMPLEMENTED", "no streams");
      },
    });
    assertEquals([...await call("version", odd)], [...odd]);
    const error = await assertRejects(() => call("containerStatus"), CriError);
    assertEquals([error.code, error.message, error.runtime], [
      "NOT_FOUND",
      'no "such" thing: 100 %',
      "crio",
    ]);
  }));

Deno.test("RemoteRuntime.unary() takes answers as large as a kubelet takes, and no larger", () =>
  withRemote(async ({ serve, call }) => {
    let bytes = MAX_MESSAGE_BYTES;
    await serve({
      unary: () => {
        // One field, whose tag and length take five bytes.
        const text = new Uint8Array(bytes - 5).fill(0x61);
        return Promise.resolve(field(1, text));
      },
      serverStream: () => {
        throw new CriError("UNIMPLEMENTED", "no streams");
      },
    });
    assertEquals((await call("listContainers")).length, MAX_MESSAGE_BYTES);
    bytes++;
    const error = await assertRejects(() => call("listContainers"), CriError);
    assertEquals(error.code, "RESOURCE_EXHAUSTED");
  }));

Deno.test("RemoteRuntime.unary() ends with the call's own signal and deadline", () =>
  withRemote(async ({ serve, call }) => {
    const cancelled = Promise.withResolvers<void>();
    await serve({
      pullImage: (_request, { signal }) =>
        new Promise((_, reject) => {
          signal.addEventListener("abort", () => {
            cancelled.resolve();
            reject(signal.reason);
          }, { once: true });
        }),
    });
    const controller = new AbortController();
    const pulling = call("pullImage", new Uint8Array(), { signal: controller.signal });
    await delay(50);
    controller.abort(new Error("enough"));
    await assertRejects(() => pulling, Error, "enough");
    await cancelled.promise;
    const late = await assertRejects(
      () => call("pullImage", new Uint8Array(), { deadlineMs: Date.now() + 50 }),
      CriError,
    );
    assertEquals(late.code, "DEADLINE_EXCEEDED");
  }));

Deno.test("RemoteRuntime gives every call up when the runtime hangs, and refuses others until it is back", () =>
  withRemote(async ({ remote, serve, call }) => {
    const hang = Promise.withResolvers<void>();
    let hanging = false;
    await serve({
      status: async () => {
        if (hanging) await hang.promise;
        return {};
      },
      pullImage: async () => {
        await hang.promise;
        return {};
      },
    });
    await remote.start();
    const pulling = call("pullImage");
    hanging = true;
    await unavailable(pulling);
    assertEquals(remote.state.kind, "hanging");
    await unavailable(call("version"));
    hanging = false;
    hang.resolve();
    await until(() => remote.state.kind === "up");
    await call("pullImage");
  }));

const GARBAGE: { [what: string]: (connection: Deno.Conn) => Promise<unknown> } = {
  "is no server of HTTP/2": (connection) => connection.write(new TextEncoder().encode("hello\n")),
  "answers by HTTP/1.1": (connection) =>
    connection.write(new TextEncoder().encode("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")),
  "hangs up": () => Promise.resolve(),
};
for (const [what, answer] of Object.entries(GARBAGE)) {
  Deno.test(`RemoteRuntime.unary() fails with UNAVAILABLE when what listens ${what}`, () =>
    withRemote(async ({ remote, socketPath, call }) => {
      using listener = Deno.listen({ transport: "unix", path: socketPath });
      const serving = (async () => {
        for await (const connection of listener) {
          await answer(connection).catch(() => {});
          connection.close();
        }
      })();
      await remote.start();
      assertEquals(remote.state.kind, "down");
      await unavailable(call("version"));
      listener.close();
      await serving.catch(() => {});
    }));
}

Deno.test("RemoteRuntime.unary() fails with UNAVAILABLE when an answer is no protobuf message", () =>
  withRemote(async ({ remote, serve, call }) => {
    const garbage = new TextEncoder().encode("no message");
    await serve({
      unary: () => Promise.resolve(garbage),
      serverStream: () => {
        throw new CriError("UNIMPLEMENTED", "no streams");
      },
    });
    await remote.start();
    assertEquals(remote.state.kind, "down");
    await unavailable(call("listContainers"));
  }));

Deno.test("RemoteRuntime.unary() fails with UNAVAILABLE when the runtime is killed within a call", async () => {
  const socketPath = await Deno.makeTempFile({ prefix: "multicri-remote-", suffix: ".sock" });
  const server = `
    import { serveCri } from ${JSON.stringify(import.meta.resolve("../server/server.ts"))};
    import { systemClock } from ${JSON.stringify(import.meta.resolve("../base/clock.ts"))};
    import { createLogger } from ${JSON.stringify(import.meta.resolve("../base/log.ts"))};
    await Deno.remove(${JSON.stringify(socketPath)});
    const unary = ({ key }) => {
      if (key === "containerStatus") Deno.kill(Deno.pid, "SIGKILL");
      return Promise.resolve(new Uint8Array());
    };
    const log = createLogger({ threshold: "error", write: () => {} });
    await serveCri({ socketPath: ${
    JSON.stringify(socketPath)
  }, backend: { unary }, clock: systemClock, log });
    console.log("up");
  `;
  const child = new Deno.Command(Deno.execPath(), {
    args: ["eval", "--no-check", server],
    stdout: "piped",
  }).spawn();
  const reader = child.stdout.getReader();
  await reader.read();
  const remote = new RemoteRuntime({ name: "crio", socketPath }, systemClock, log, HEARTBEAT);
  try {
    await remote.start();
    assertEquals(remote.state.kind, "up");
    const request = ContainerStatusRequest.encode({ containerId: "a", verbose: false }).finish();
    const error = await assertRejects(
      () => remote.unary(methodOf("containerStatus"), request, CONTEXT),
      CriError,
    );
    assertEquals(error.code, "UNAVAILABLE", error.message);
    assertStringIncludes(error.message, "'crio'");
  } finally {
    await remote.close();
    await reader.cancel();
    await child.status;
    await delay(RECONNECT_MS);
    await Deno.remove(socketPath).catch(() => {});
  }
});

Deno.test("RemoteRuntime.serverStream() ends with the runtime, and when its reader goes", () =>
  withRemote(async ({ remote, serve, stop }) => {
    const gone = Promise.withResolvers<void>();
    await serve({
      async *getContainerEvents(_request, { signal }) {
        for (const containerId of ["a", "b"]) yield { containerId };
        await new Promise<void>((resolve) => {
          signal.addEventListener("abort", () => resolve(), { once: true });
        });
        gone.resolve();
      },
    });
    await remote.start();
    const method = methodOf("getContainerEvents");
    const events = () => remote.serverStream(method, new Uint8Array(), CONTEXT);
    const seen: number[] = [];
    for await (const event of events()) {
      seen.push(event.length);
      if (seen.length === 2) break;
    }
    await gone.promise;
    const reading = (async () => {
      for await (const _event of events()) await stop();
    })();
    await unavailable(reading);
    assertEquals(seen, [3, 3]);
  }));
