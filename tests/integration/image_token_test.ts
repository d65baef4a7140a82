/** A registry that takes nothing but a bearer token, and keeps its blobs on a host that must not see it. */
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { dirname } from "@std/path";
import type { Lab } from "../../scripts/lab/lab.ts";
import { CriClient } from "../cri_client.ts";
import { type Certificate, makeCertificate } from "./certificate.ts";
import { sampleCommandLines } from "./command_lines.ts";
import { Harness } from "./harness.ts";

/** Free on the machine. */
const [REGISTRY_PORT, STORAGE_PORT] = [5444, 5445];
const TOKEN = "bearer-5ecret.of~the/test==";

/** The lab's registry by https and token; blobs come from the storage, which notes who shows it something. */
class TokenRegistry implements AsyncDisposable {
  readonly shownToStorage: (string | null)[] = [];
  readonly #servers: Deno.HttpServer[];

  constructor(readonly lab: Lab, certificate: Certificate) {
    const hostname = lab.address("machine");
    const quiet = { hostname, onListen: () => {} };
    this.#servers = [
      Deno.serve({ ...quiet, port: REGISTRY_PORT, ...certificate }, (request) => {
        const { pathname } = new URL(request.url);
        if (request.headers.get("authorization") !== `Bearer ${TOKEN}`) {
          const headers = { "www-authenticate": `Bearer realm="https://${hostname}/token"` };
          return Response.json({ errors: [{ code: "UNAUTHORIZED" }] }, { status: 401, headers });
        }
        if (!pathname.includes("/blobs/")) return this.#handOn(request);
        const location = `http://${hostname}:${STORAGE_PORT}${pathname}?signature=s3cret`;
        return new Response(null, { status: 307, headers: { location } });
      }),
      Deno.serve({ ...quiet, port: STORAGE_PORT }, (request) => {
        this.shownToStorage.push(request.headers.get("authorization"));
        return this.#handOn(request);
      }),
    ];
  }

  get address(): string {
    return `${this.lab.address("machine")}:${REGISTRY_PORT}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#servers.map((server) => server.shutdown()));
  }

  async #handOn({ method, url, headers }: Request): Promise<Response> {
    const accept = headers.get("accept") ?? "*/*";
    const { status, headers: said, body } = await fetch(
      `http://${this.lab.registry}${new URL(url).pathname}`,
      { method, headers: { accept } },
    );
    return new Response(body, { status, headers: said });
  }
}

/** A policy.json(5) that forbids one registry's images. */
function rejecting(registry: string): string {
  return JSON.stringify({
    default: [{ type: "insecureAcceptAnything" }],
    transports: { docker: { [registry]: [{ type: "reject" }] } },
  });
}

Deno.test("an image comes by a bearer token, which only its registry sees", async () => {
  const harness = await Harness.start({ name: "imgtoken" });
  const { lab, server } = harness;
  const authority = await makeCertificate("DNS:authority");
  const certificate = await makeCertificate(`IP:${lab.address("machine")}`, authority);
  await using registry = new TokenRegistry(lab, certificate);
  const { address } = registry;
  const trusted = lab.path("knode", `/etc/containers/certs.d/${address}/ca.crt`);
  const cri = new CriClient(lab.path("knode", server.socketPath));
  const image = { image: `${address}/lab/entry:1` };
  const pull = (registryToken: string) => cri.call("pullImage", { image, auth: { registryToken } });
  const refused = async (registryToken: string, says: RegExp) => {
    const error = await assertRejects(() => pull(registryToken), Error);
    assertMatch(error.message, says);
    assertEquals(/127\.0\.0\.1|s3cret|5ecret/.exec(error.message), null);
  };
  const policyPath = lab.path("knode", "/etc/containers/policy.json");
  const policy = await Deno.readTextFile(policyPath);
  const sampling = new AbortController();
  const sampled = sampleCommandLines(sampling.signal);
  try {
    // What an earlier run left would not be asked for again.
    await server.crictl(["rmi", image.image]);
    await refused(TOKEN, /^14 UNAVAILABLE: Cannot pull lab\/entry:1 from .*certificate/);
    await Deno.mkdir(dirname(trusted), { recursive: true });
    await Deno.writeTextFile(trusted, authority.cert);
    await refused(
      `${TOKEN.slice(0, -2)}no`,
      /^16 UNAUTHENTICATED: Cannot pull lab\/entry:1 from [\d.]+:5444: the registry refuses the credentials/,
    );
    image.image = `${address}/lab/nothing:1`;
    await refused(TOKEN, /^5 NOT_FOUND: Cannot pull lab\/nothing:1 from [\d.]+:5444: .*no such/);
    image.image = `${address}/lab/entry:1`;
    await Deno.writeTextFile(policyPath, rejecting(address));
    await refused(TOKEN, /^14 UNAVAILABLE: .*rejected by policy/);
    await Deno.writeTextFile(policyPath, policy);
    const { imageRef } = await pull(TOKEN);
    const { image: found } = await cri.call("imageStatus", { image });
    assertEquals([found?.id, found?.repoTags], [imageRef, [image.image]]);
    assertMatch(
      found?.repoDigests.join() ?? "",
      new RegExp(`^${address}/lab/entry@sha256:\\w{64}$`),
    );
    const made = await harness.run({ image: image.image });
    assertEquals((await harness.exited(made.container)).status.exitCode, 0);
    await harness.removeCleanly(made);
  } finally {
    sampling.abort();
    cri.close();
    await Deno.writeTextFile(policyPath, policy);
    await Deno.remove(dirname(trusted), { recursive: true }).catch(() => {});
    await harness.stop();
  }
  assert(registry.shownToStorage.length > 0, "no blob came from the storage");
  assertEquals(registry.shownToStorage.filter((shown) => shown !== null), []);
  const seen = await sampled;
  assert(seen.some((line) => /skopeo .*copy/.test(line)), "no pull was seen");
  const leaks = (text: string) => text.includes("5ecret");
  assertEquals(seen.filter(leaks), []);
  for (const directory of [server.rootDir, server.stateDir, server.cachePath, server.logPath]) {
    const { stdout } = await lab.exec("knode", ["grep", "-rlF", "5ecret", directory]);
    assertEquals(stdout, "", "the token was left on the node");
  }
});
