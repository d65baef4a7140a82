import { status } from "@grpc/grpc-js";
import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { dirname, fromFileUrl, join } from "@std/path";
import { type Clock, systemClock } from "../base/clock.ts";
import { CriError } from "../base/error.ts";
import { createLogger } from "../base/log.ts";
import { VersionResponse } from "../cri/api.generated.ts";
import { type CallContext, MAX_MESSAGE_BYTES } from "../cri/service.ts";
import { TestClient, withServer } from "./test_client.ts";
import { serveCri } from "./server.ts";

const echo = { unary: (_method: unknown, request: Uint8Array) => Promise.resolve(request) };

async function codeOf(call: Promise<unknown>): Promise<string> {
  const error = await assertRejects(() => call, Error) as Error & { code: number };
  return status[error.code] ?? String(error.code);
}

/** A clock on which every wait is over at once. */
const impatientClock: Clock = { now: () => Date.now(), sleep: () => Promise.resolve() };

Deno.test("serveCri() makes the socket with mode 0600 and close() removes it", async () => {
  await withServer(echo, async ({ client, server, socketPath }) => {
    assertEquals(((await Deno.lstat(socketPath)).mode ?? 0) & 0o777, 0o600);
    await client.unary("Version");
    await Promise.all([server.close(), server.close()]);
    await assertRejects(() => Deno.lstat(socketPath), Deno.errors.NotFound);
  });
});

Deno.test("serveCri() refuses the socket when another server answers on it, which goes on", async () => {
  await withServer(echo, async ({ client, socketPath }) => {
    const log = createLogger({ threshold: "error", write: () => {} });
    const backend = { ...echo, serverStream: () => (async function* () {})() };
    const error = await assertRejects(
      () => serveCri({ socketPath, backend, log, clock: systemClock }),
      CriError,
      "another server answers",
    );
    assertEquals(error.code, "ALREADY_EXISTS");
    assertEquals(await client.unary("Version", Uint8Array.of(1)), Uint8Array.of(1));
  });
});

Deno.test("serveCri() names the directory when it is missing", async () => {
  const log = createLogger({ threshold: "error", write: () => {} });
  const backend = { ...echo, serverStream: () => (async function* () {})() };
  const directory = await Deno.makeTempDir();
  await Deno.remove(directory);
  await assertRejects(
    () => serveCri({ socketPath: `${directory}/cri.sock`, backend, log, clock: systemClock }),
    CriError,
    `its directory "${directory}" must exist`,
  );
});

Deno.test("a message of MAX_MESSAGE_BYTES passes both ways and a larger one is RESOURCE_EXHAUSTED", async () => {
  const large = new Uint8Array(MAX_MESSAGE_BYTES + 1).fill(7);
  await withServer(echo, async ({ client }) => {
    const answer = await client.unary("ExecSync", large.subarray(1));
    assertEquals([answer.length, answer.at(-1)], [MAX_MESSAGE_BYTES, 7]);
    assertEquals(await codeOf(client.unary("ExecSync", large)), "RESOURCE_EXHAUSTED");
  });
  await withServer({ unary: () => Promise.resolve(large) }, async ({ client }) => {
    assertEquals(await codeOf(client.unary("ExecSync")), "RESOURCE_EXHAUSTED");
  });
});

Deno.test("close() lets a running call finish and ends a stream with UNAVAILABLE", async () => {
  const [begun, streaming] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const goOn = Promise.withResolvers<void>();
  const backend = {
    async unary() {
      begun.resolve();
      await goOn.promise;
      return Uint8Array.of(1, 2, 3);
    },
    async *serverStream(_method: unknown, _request: unknown, { signal }: CallContext) {
      yield new Uint8Array();
      streaming.resolve();
      await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
      goOn.resolve(); // the call is still under way when the stream has been told to end
    },
  };
  await withServer(backend, async ({ client, server, socketPath, lines }) => {
    const call = client.unary("StopContainer");
    const events = client.stream("GetContainerEvents");
    const ended = codeOf(events.toArray());
    await Promise.all([begun.promise, streaming.promise]);
    await server.close();
    assertEquals(await call, Uint8Array.of(1, 2, 3));
    assertEquals(await ended, "UNAVAILABLE");
    await assertRejects(
      () => Deno.connect({ transport: "unix", path: socketPath }),
      Deno.errors.NotFound,
    );
    assertEquals(lines.at(-1)?.startsWith("INFO Closed"), true);
  });
});

Deno.test("close() aborts a call with UNAVAILABLE when it outlasts the grace", async () => {
  const begun = Promise.withResolvers<void>();
  const backend = {
    async unary(_method: unknown, _request: unknown, { signal }: CallContext) {
      begun.resolve();
      await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
      signal.throwIfAborted();
      return new Uint8Array();
    },
  };
  await withServer(backend, async ({ client, server }) => {
    const code = codeOf(client.unary("PullImage"));
    await begun.promise;
    await server.close();
    assertEquals(await code, "UNAVAILABLE");
  }, { clock: graceOver() });
});

Deno.test("close() cuts a call and names it when it does not even heed its signal", async () => {
  const [begun, release] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const backend = {
    async unary() {
      begun.resolve();
      await release.promise;
      return new Uint8Array();
    },
  };
  await withServer(backend, async ({ client, server, lines }) => {
    const call = codeOf(client.unary("PullImage"));
    await begun.promise;
    await server.close();
    await call;
    assertStringIncludes(lines.join("\n"), "WARNING Cutting calls that did not end rpcs=PullImage");
    release.resolve();
  }, { clock: impatientClock });
});

/** A clock on which the first wait, that for calls to finish, is over at once. */
function graceOver(): Clock {
  let first = true;
  return {
    now: () => Date.now(),
    sleep(ms, signal) {
      if (!first) return systemClock.sleep(ms, signal);
      first = false;
      return Promise.resolve();
    },
  };
}

Deno.test("serveCri() works with scoped permissions and replaces the socket when its server was killed", async () => {
  const directory = await Deno.makeTempDir({ prefix: "multicri-server-" });
  const socketPath = `${directory}/cri.sock`;
  const start = () =>
    new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "--quiet",
        "--no-prompt",
        `--allow-net=unix:${socketPath}`,
        `--allow-read=${socketPath}`,
        `--allow-write=${socketPath}`,
        "--allow-env=GRPC_NODE_VERBOSITY,GRPC_VERBOSITY,GRPC_NODE_TRACE,GRPC_TRACE," +
        "GRPC_SSL_CIPHER_SUITES,GRPC_DEFAULT_SSL_ROOTS_FILE_PATH,GRPC_NODE_USE_ALTERNATIVE_RESOLVER," +
        "GRPC_NODE_DEBUG_SEND_ERROR_DETAILS,GRPC_EXPERIMENTAL_ENABLE_OUTLIER_DETECTION",
        join(dirname(fromFileUrl(import.meta.url)), "test_scoped_server.ts"),
        socketPath,
      ],
      stdin: "null",
      stdout: "piped",
      stderr: "null",
    }).spawn();
  try {
    for (let round = 0; round < 2; round++) {
      const child = start();
      const output = child.stdout.getReader();
      const { value } = await output.read();
      assertEquals(new TextDecoder().decode(value), "ready\n");
      const client = new TestClient(socketPath);
      const answer = VersionResponse.decode(await client.unary("Version"));
      assertEquals(answer.runtimeName, "scoped");
      client.close();
      child.kill("SIGKILL");
      await child.status;
      await output.cancel();
      assertEquals(
        (await Deno.lstat(socketPath)).isSocket,
        true,
        "a killed server leaves its socket",
      );
    }
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
