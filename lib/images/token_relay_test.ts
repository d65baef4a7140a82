import { assertEquals, assertMatch, assertNotEquals, assertRejects } from "@std/assert";
import { CriError } from "../base/error.ts";
import { TokenRelay } from "./token_relay.ts";

const TOKEN = "bearer-secret";
const BASE = "/v2/team/app";
const MANIFEST = '{"schemaVersion":2}';

interface Asked {
  server: "registry" | "storage";
  method: string;
  path: string;
  authorization: string | null;
  range: string | null;
}

interface Test {
  relay: TokenRelay;
  registry: Deno.HttpServer<Deno.NetAddr>;
  asked: Asked[];
  /** Resolves when the registry's endless blob has lost its reader. */
  gone: PromiseWithResolvers<void>;
  /** Ends the relay, the first time. */
  end: () => Promise<void>;
  /** Asks the relay with its login. */
  get: (path: string, init?: RequestInit) => Promise<Response>;
}

/** A registry that wants the token, a storage of blobs that has none of its business, and a relay. */
async function withRelay(
  use: (test: Test) => Promise<void>,
  { token = TOKEN }: { token?: string } = {},
): Promise<void> {
  const asked: Asked[] = [];
  const gone = Promise.withResolvers<void>();
  const silence = Promise.withResolvers<Response>();
  const note = (server: Asked["server"], { method, url, headers }: Request) => {
    const { pathname, search } = new URL(url);
    const authorization = headers.get("authorization");
    asked.push({
      server,
      method,
      path: pathname + search,
      authorization,
      range: headers.get("range"),
    });
  };
  const listen = { hostname: "127.0.0.1", port: 0, onListen: () => {} };
  const storage = Deno.serve(listen, (request) => {
    note("storage", request);
    return new Response("a blob");
  });
  const ending = new AbortController();
  const registry = Deno.serve({ ...listen, signal: ending.signal }, (request) => {
    note("registry", request);
    const { pathname } = new URL(request.url);
    if (request.headers.get("authorization") !== `Bearer ${TOKEN}`) {
      const headers = { "www-authenticate": 'Bearer realm="https://auth.example/"' };
      return Response.json({ errors: [{ code: "UNAUTHORIZED" }] }, { status: 401, headers });
    }
    const answers: Record<string, () => Response | Promise<Response>> = {
      "manifests/1": () =>
        new Response(MANIFEST, {
          headers: { "content-type": "application/x-manifest", "content-length": "19" },
        }),
      "blobs/away": () => redirect(`http://127.0.0.1:${storage.addr.port}/x?signature=s3cret`),
      "blobs/near": () => redirect(`${BASE}/manifests/1`),
      "blobs/circle": () => redirect(`${BASE}/blobs/circle`),
      "blobs/nowhere": () => redirect("https://127.0.0.1:2/x?signature=s3cret"),
      "blobs/file": () => redirect("file:///etc/passwd"),
      "blobs/garbled": () => redirect("https://[s3cret"),
      "blobs/endless": () => new Response(pieces(Infinity, gone.resolve)),
      "blobs/cut": () => new Response(pieces(3)),
      "blobs/silent": () => silence.promise,
      "blobs/zipped": zipped,
    };
    return answers[pathname.slice(BASE.length + 1)]?.() ?? new Response(null, { status: 404 });
  });
  const relay = new TokenRelay({
    origin: `http://127.0.0.1:${registry.addr.port}`,
    repository: "team/app",
    token,
    client: Deno.createHttpClient({}),
  });
  const get = (path: string, init: RequestInit = {}) =>
    fetch(`http://${relay.address}${path}`, {
      ...init,
      headers: { ...login(relay), ...init.headers },
    });
  let ended: Promise<void> | undefined;
  const end = () => ended ??= relay[Symbol.asyncDispose]();
  try {
    await use({ relay, end, registry, asked, gone, get });
  } finally {
    await end();
    silence.resolve(new Response());
    ending.abort();
    await Promise.all([storage.shutdown(), registry.finished]);
  }
}

function login(relay: TokenRelay): { authorization: string } {
  return { authorization: `Basic ${relay.login.auth}` };
}

const realFetch = fetch;

/** Replaces `fetch()` until it is disposed. */
function stubFetch(answer: (url: URL) => Promise<Response>): Disposable {
  globalThis.fetch = (url) => answer(url as URL);
  return { [Symbol.dispose]: () => globalThis.fetch = realFetch };
}

function redirect(location: string): Response {
  return new Response(null, { status: 307, headers: { location } });
}

/** So many pieces, and then an error. */
function pieces(count: number, cancel: () => void = () => {}): ReadableStream<Uint8Array> {
  let sent = 0;
  return new ReadableStream({
    pull(controller) {
      if (sent++ < count) controller.enqueue(new Uint8Array(1000));
      else controller.error("cut");
    },
    cancel,
  });
}

/** Compressed though nobody asked for that. */
function zipped(): Response {
  const body = new Blob([MANIFEST]).stream().pipeThrough(new CompressionStream("gzip"));
  return new Response(body, { headers: { "content-encoding": "gzip" } });
}

Deno.test("TokenRelay hands on to the registry with the token, and hands back what it says", () =>
  withRelay(async ({ get, asked }) => {
    const headers = { range: "bytes=1-" };
    const response = await get(`${BASE}/manifests/1`, { headers });
    assertEquals(await response.text(), MANIFEST);
    assertEquals(response.headers.get("content-type"), "application/x-manifest");
    const head = await get(`${BASE}/manifests/1`, { method: "HEAD" });
    assertEquals([head.status, head.headers.get("content-length")], [200, "19"]);
    const path = `${BASE}/manifests/1`;
    const authorization = `Bearer ${TOKEN}`;
    assertEquals(asked, [
      { server: "registry", method: "GET", path, authorization, range: "bytes=1-" },
      { server: "registry", method: "HEAD", path, authorization, range: null },
    ]);
  }));

Deno.test("TokenRelay keeps a body whole when the registry compresses it unasked", () =>
  withRelay(async ({ get }) => {
    assertEquals(await (await get(`${BASE}/blobs/zipped`)).text(), MANIFEST);
  }));

Deno.test("TokenRelay follows to another host without the token, and to the same one with it", () =>
  withRelay(async ({ get, asked }) => {
    assertEquals(await (await get(`${BASE}/blobs/away`)).text(), "a blob");
    assertEquals(asked.at(-1)?.path, "/x?signature=s3cret");
    assertEquals(await (await get(`${BASE}/blobs/near`)).text(), MANIFEST);
    const bearer = `Bearer ${TOKEN}`;
    assertEquals(asked.map(({ server, authorization }) => [server, authorization]), [
      ["registry", bearer],
      ["storage", null],
      ["registry", bearer],
      ["registry", bearer],
    ]);
  }));

const STRANGERS: readonly [what: string, headers: (relay: TokenRelay) => HeadersInit][] = [
  ["no login", () => ({})],
  ["another login", () => ({ authorization: `Basic ${btoa("multicri:")}` })],
  ["the token", () => ({ authorization: `Bearer ${TOKEN}` })],
  ["its login as a bearer", (relay) => ({ authorization: `Bearer ${relay.login.auth}` })],
];

for (const [what, headers] of STRANGERS) {
  Deno.test(`TokenRelay asks nobody when a client comes with ${what}`, () =>
    withRelay(async ({ relay, asked }) => {
      const url = `http://${relay.address}${BASE}/manifests/1`;
      const response = await fetch(url, { headers: headers(relay) });
      await response.body?.cancel();
      assertEquals([response.status, asked], [401, []]);
      assertEquals(response.headers.get("www-authenticate"), 'Basic realm="multicri"');
    }));
}

const REFUSED: readonly [method: string, path: string][] = [
  ["PUT", `${BASE}/manifests/1`],
  ["POST", `${BASE}/blobs/uploads`],
  ["DELETE", `${BASE}/manifests/1`],
  ["GET", "/v2/"],
  ["GET", "/v2/team/other/manifests/1"],
  ["GET", "/v2/team/application/manifests/1"],
  ["GET", "/v2/_catalog"],
  ["GET", `${BASE}/../other/manifests/1`],
  ["GET", `${BASE}/%2e%2e/other/manifests/1`],
  ["GET", `${BASE}/manifests/..%2f..%2fother`],
  ["GET", `${BASE}/manifests/a/b`],
  ["GET", `//other.example${BASE}/manifests/1`],
];

for (const [method, path] of REFUSED) {
  Deno.test(`TokenRelay asks nobody when asked to ${method} ${path}`, () =>
    withRelay(async ({ get, asked }) => {
      const response = await get(path, { method });
      await response.body?.cancel();
      assertEquals([response.status, asked], [404, []]);
    }));
}

Deno.test("TokenRelay hands a refusal back without its challenge when the token is wrong", () =>
  withRelay(async ({ relay, get, asked }) => {
    const response = await get(`${BASE}/manifests/1`);
    assertEquals([response.status, response.headers.get("www-authenticate")], [401, null]);
    assertMatch(await response.text(), /UNAUTHORIZED/);
    assertEquals([asked.length, relay.failure], [1, undefined]);
  }, { token: "wrong" }));

const FAILURES: readonly [path: string, says: RegExp][] = [
  ["blobs/circle", /^127\.0\.0\.1:\d+ redirects more than 10 times$/],
  ["blobs/nowhere", /^127\.0\.0\.1:2 cannot be asked: .*refused/],
  ["blobs/garbled", /redirects to an address that is not of the web$/],
  ["blobs/file", /redirects to an address that is not of the web$/],
];

for (const [path, says] of FAILURES) {
  Deno.test(`TokenRelay says why when ${path} leads to no answer, and forgets it when one comes`, () =>
    withRelay(async ({ relay, get }) => {
      const response = await get(`${BASE}/${path}`);
      await response.body?.cancel();
      assertEquals(response.status, 502);
      assertMatch(relay.failure ?? "", says);
      assertEquals(relay.failure?.includes("s3cret"), false);
      await (await get(`${BASE}/manifests/1`)).text();
      assertEquals(relay.failure, undefined);
    }));
}

Deno.test("TokenRelay breaks off when the registry breaks off", () =>
  withRelay(async ({ get }) => {
    const response = await get(`${BASE}/blobs/cut`);
    assertEquals(response.status, 200);
    await assertRejects(() => response.bytes());
  }));

Deno.test("TokenRelay breaks off, and ends, when a client still reads", () =>
  withRelay(async ({ end, get }) => {
    const reader = (await get(`${BASE}/blobs/endless`)).body?.getReader();
    assertEquals((await reader?.read())?.done, false);
    await end();
    await assertRejects(async () => {
      while (!(await reader?.read())?.done);
    });
  }));

Deno.test("TokenRelay stops asking when its client goes, or the registry never answers", () =>
  withRelay(async ({ end, get, gone }) => {
    const going = new AbortController();
    const response = await get(`${BASE}/blobs/endless`, { signal: going.signal });
    going.abort();
    await assertRejects(() => response.bytes());
    await gone.promise;
    const waiting = get(`${BASE}/blobs/silent`).then((answer) => answer.bytes());
    waiting.catch(() => {});
    await end();
    await assertRejects(() => waiting);
  }));

Deno.test("TokenRelay ends when a client keeps half a request back", () =>
  withRelay(async ({ relay, end }) => {
    const [hostname = "", port] = relay.address.split(":");
    using connection = await Deno.connect({ hostname, port: Number(port) });
    await connection.write(new TextEncoder().encode("GET /v2/ HTTP/1.1\r\nhost:"));
    await end();
    assertEquals(await connection.read(new Uint8Array(1)).catch(() => null), null);
  }));

Deno.test("TokenRelay has another login each time, and names itself for one repository", () =>
  withRelay(({ relay }) =>
    withRelay((other) => {
      assertNotEquals(relay.login, other.relay.login);
      assertEquals(
        relay.registriesConf("r.example:5000"),
        `[[registry]]\nprefix = "r.example:5000/team/app"\n` +
          `location = "${relay.address}/team/app"\ninsecure = true\n`,
      );
      return Promise.resolve();
    })
  ));

Deno.test({
  name: "TokenRelay.open() says what to do instead when the process may not reach any host",
  permissions: { net: ["login.example:22"] },
  fn: async () => {
    const open = () => TokenRelay.open("r.example", "team/app", TOKEN);
    const error = await assertRejects(open, CriError, "--allowed-clusters");
    assertEquals([error.code, error.message.includes(TOKEN)], ["FAILED_PRECONDITION", false]);
  },
});

Deno.test("TokenRelay.open() asks docker.io by the name of its API, and others by their own", async () => {
  for (const registry of ["docker.io", "r.example:5000"]) {
    const { promise: asked, resolve } = Promise.withResolvers<URL>();
    using _ = stubFetch((url) => {
      resolve(url);
      return Promise.resolve(new Response());
    });
    await using relay = await TokenRelay.open(registry, "team/app", TOKEN);
    const url = `http://${relay.address}${BASE}/manifests/1`;
    await realFetch(url, { headers: login(relay) }).then((response) => response.body?.cancel());
    const host = registry === "docker.io" ? "registry-1.docker.io" : registry;
    assertEquals((await asked).href, `https://${host}${BASE}/manifests/1`);
  }
});
