import { status } from "@grpc/grpc-js";
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { CriError } from "../base/error.ts";
import {
  ContainerStatusRequest,
  RunPodSandboxResponse,
  StopContainerRequest,
  VersionRequest,
  VersionResponse,
} from "../cri/api.generated.ts";
import { backendFromHandlers, type CallContext, METHODS } from "../cri/service.ts";
import { MAX_STATUS_DETAILS_BYTES, toStatus } from "./call.ts";
import { withServer } from "./test_client.ts";

const notBuilt = (name: string) => `${name} is not built yet.`;
const ID = "c0ffee".padEnd(64, "0");

/** What a failed call looks like to the client. */
async function failure(call: Promise<unknown>): Promise<{ code: string; details: string }> {
  const error = await assertRejects(() => call, Error) as Error & { code: number; details: string };
  return { code: status[error.code] ?? String(error.code), details: error.details };
}

Deno.test("unaryHandler() answers with the backend's bytes and its context has the call's deadline", async () => {
  const contexts: CallContext[] = [];
  const backend = backendFromHandlers({
    version(request, context) {
      contexts.push(context);
      return Promise.resolve({ version: `${request.version}!`, runtimeName: "multicri" });
    },
  }, notBuilt);
  await withServer(backend, async ({ client }) => {
    const request = VersionRequest.encode({ version: "0.1.0" }).finish();
    const before = Date.now();
    const answer = VersionResponse.decode(
      await client.unary("Version", request, { deadline: 60_000 }),
    );
    assertEquals([answer.version, answer.runtimeName], ["0.1.0!", "multicri"]);
    await client.unary("Version", request);
    const [withDeadline, without] = contexts;
    assert(withDeadline?.deadlineMs !== undefined && withDeadline.deadlineMs > before + 50_000);
    assertEquals(without?.deadlineMs, undefined);
    assertEquals(contexts.map((context) => context.signal.aborted), [false, false]);
  });
});

Deno.test("every RPC of CRI v1 answers UNIMPLEMENTED with the given sentence when it has no handler", async () => {
  await withServer(backendFromHandlers({}, notBuilt), async ({ client }) => {
    for (const { name, responseStream } of METHODS) {
      const call = responseStream ? client.stream(name).toArray() : client.unary(name);
      assertEquals(await failure(call), {
        code: "UNIMPLEMENTED",
        details: `${name} is not built yet.`,
      });
    }
  });
});

Deno.test("unaryHandler() answers INVALID_ARGUMENT when the request is not its message", async () => {
  await withServer(
    backendFromHandlers({ version: () => Promise.resolve({}) }, notBuilt),
    async ({ client }) => {
      const { code, details } = await failure(
        client.unary("Version", Uint8Array.of(0x0a, 0x7f, 0x41)),
      );
      assertEquals(code, "INVALID_ARGUMENT");
      assertStringIncludes(details, "Cannot read the request of Version: its 3 bytes");
    },
  );
});

Deno.test("unaryHandler() gives the client the sentence alone and the log the stack when a handler throws", async () => {
  const backend = backendFromHandlers({
    stopContainer: () => Promise.reject(new TypeError("x is undefined")),
    version() {
      throw new RangeError("not even a promise");
    },
  }, notBuilt);
  await withServer(backend, async ({ client, lines }) => {
    assertEquals(await failure(client.unary("StopContainer")), {
      code: "INTERNAL",
      details: "x is undefined",
    });
    assertEquals((await failure(client.unary("Version"))).details, "not even a promise");
    const [first = "", second = ""] = lines.slice(1);
    assertStringIncludes(first, "ERROR StopContainer failed: x is undefined");
    assertStringIncludes(first, "call_test.ts");
    assertStringIncludes(second, "ERROR Version failed");
  });
});

Deno.test("the context's signal aborts with a TimeoutError when the client's deadline passes", async () => {
  const ended = Promise.withResolvers<unknown>();
  const backend = backendFromHandlers({
    async containerStatus(_request, { signal }) {
      await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
      ended.resolve(signal.reason);
      return {}; // late, and dropped
    },
  }, notBuilt);
  await withServer(backend, async ({ client, lines }) => {
    const request = ContainerStatusRequest.encode({ containerId: ID, verbose: false }).finish();
    const { code } = await failure(client.unary("ContainerStatus", request, { deadline: 50 }));
    assertEquals(code, "DEADLINE_EXCEEDED");
    assertEquals((await ended.promise as DOMException).name, "TimeoutError");
    await client.unary("Version").catch(() => {}); // its line comes after the other one
    assertStringIncludes(
      lines[1] ?? "",
      `container=${ID} code=DEADLINE_EXCEEDED`,
    );
  });
});

Deno.test("the context's signal aborts with an AbortError when the client cancels", async () => {
  const [started, ended] = [Promise.withResolvers<void>(), Promise.withResolvers<unknown>()];
  const backend = backendFromHandlers({
    async stopContainer(_request, { signal }) {
      started.resolve();
      await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
      ended.resolve(signal.reason);
      throw new Error("unwound");
    },
  }, notBuilt);
  await withServer(backend, async ({ client, lines }) => {
    const abort = new AbortController();
    const request = StopContainerRequest.encode({ containerId: ID, timeout: 0n }).finish();
    const call = failure(client.unary("StopContainer", request, { signal: abort.signal }));
    await started.promise;
    abort.abort();
    assertEquals((await call).code, "CANCELLED");
    assertEquals((await ended.promise as DOMException).name, "AbortError");
    await client.unary("Version").catch(() => {});
    assertStringIncludes(lines[1] ?? "", `WARNING StopContainer failed: The call was cancelled`);
    assertStringIncludes(lines[1] ?? "", `container=${ID} code=CANCELLED`);
    assertStringIncludes(lines[1] ?? "", "interrupted=unwound");
  });
});

Deno.test("logCall() writes one line a call, changes at info and reads at debug, when calls succeed", async () => {
  const backend = {
    unary: () => Promise.resolve(RunPodSandboxResponse.encode({ podSandboxId: ID }).finish()),
  };
  await withServer(backend, async ({ client, lines }) => {
    for (const name of ["RunPodSandbox", "Version", "ExecSync"]) await client.unary(name);
    assertEquals(lines.slice(1).map((line) => line.replace(/ms=\d+/, "ms=N")), [
      `INFO RunPodSandbox code=OK ms=N sandbox=${ID}`,
      "DEBUG Version code=OK ms=N",
      "DEBUG ExecSync code=OK ms=N",
    ]);
  });
});

Deno.test("unaryHandler() answers UNAVAILABLE with the reason until the server is ready", async () => {
  let reason: string | undefined = "multicri is looking for the jobs it left running: try again.";
  const backend = backendFromHandlers({ version: () => Promise.resolve({}) }, notBuilt);
  await withServer(backend, async ({ client }) => {
    assertEquals(await failure(client.unary("Version")), { code: "UNAVAILABLE", details: reason });
    assertEquals((await failure(client.stream("StreamImages").toArray())).code, "UNAVAILABLE");
    reason = undefined;
    assertEquals((await client.unary("Version")).length, 0);
  }, { notReady: () => reason });
});

Deno.test("streamHandler() delivers every message in order when the client reads slowly", async () => {
  const MESSAGES = 100;
  const MESSAGE_BYTES = 256 * 1024; // each alone outgrows HTTP/2's first window of 64 KiB
  async function* messages() {
    for (let n = 0; n < MESSAGES; n++) {
      yield await Promise.resolve(new Uint8Array(MESSAGE_BYTES).fill(n));
    }
  }
  await withServer({ serverStream: messages }, async ({ client }) => {
    const firstBytes: (number | undefined)[] = [];
    for await (const bytes of client.stream("StreamContainers")) {
      const message = bytes as Uint8Array;
      assertEquals(message.length, MESSAGE_BYTES);
      firstBytes.push(message[0]);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    assertEquals(firstBytes, Array.from({ length: MESSAGES }, (_, n) => n));
  });
});

Deno.test("streamHandler() ends the backend's generator when the client cancels", async () => {
  const ended = Promise.withResolvers<string>();
  const backend = backendFromHandlers({
    async *getContainerEvents(_request, { signal }) {
      try {
        yield { containerId: ID };
        await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
        yield { containerId: "too late" };
      } finally {
        ended.resolve((signal.reason as DOMException).name);
      }
    },
  }, notBuilt);
  await withServer(backend, async ({ client }) => {
    const stream = client.stream("GetContainerEvents");
    const { code } = await failure((async () => {
      for await (const _event of stream) stream.cancel();
    })());
    assertEquals([code, await ended.promise], ["CANCELLED", "AbortError"]);
  });
});

Deno.test("streamHandler() sends the error after the messages when the backend fails in between", async () => {
  const backend = backendFromHandlers({
    async *streamImages() {
      yield await Promise.resolve({ images: [{ id: "a" }] });
      throw new CriError("RESOURCE_EXHAUSTED", "The list of images is too long.");
    },
  }, notBuilt);
  await withServer(backend, async ({ client }) => {
    let count = 0;
    const ending = await failure((async () => {
      for await (const _part of client.stream("StreamImages")) count++;
    })());
    assertEquals(ending, {
      code: "RESOURCE_EXHAUSTED",
      details: "The list of images is too long.",
    });
    assertEquals(count, 1);
  });
});

const DETAILS: readonly [what: string, message: string, shown: string][] = [
  ["has characters beyond ASCII", "naïve → 100 % “ok”", "naïve → 100 % “ok”"],
  ["has line ends and controls", "a\nb\0c\x7f", "a\nb\0c\x7f"],
  ["has a lone surrogate", "a\ud800b", "a\ufffdb"],
  ["is too long", "é".repeat(5000), "é".repeat(MAX_STATUS_DETAILS_BYTES / 2) + " …"],
  [
    "is too long by a part of a character",
    "a" + "é".repeat(5000),
    "a" + "é".repeat(MAX_STATUS_DETAILS_BYTES / 2 - 1) + " …",
  ],
];
for (const [what, message, shown] of DETAILS) {
  Deno.test(`toStatus() reaches the client when the message ${what}`, async () => {
    assertEquals(toStatus(new CriError("ABORTED", message)).details, shown);
    const backend = { unary: () => Promise.reject(new CriError("ABORTED", message)) };
    await withServer(backend, async ({ client }) => {
      assertEquals(await failure(client.unary("Status")), { code: "ABORTED", details: shown });
    });
  });
}
