import { CriError, messageOf } from "../base/error.ts";
import { registryCertificates } from "./registry_certificates.ts";

/** As many as Go's HTTP client follows, which skopeo is. */
const MAX_REDIRECTS = 10;
/** Random bytes of a password that lives for one command: more than anybody can try. */
const PASSWORD_BYTES = 32;

/** What skopeo says that matters to a registry. Bodies must come as they are: their digests are checked. */
const REQUEST_HEADERS = ["accept", "range", "if-range", "user-agent"];
/** What a registry says that matters to skopeo, but for challenges: the token is all there is. */
const RESPONSE_HEADERS = [
  ...["accept-ranges", "content-encoding", "content-length", "content-range", "content-type"],
  ...["docker-content-digest", "docker-distribution-api-version", "etag", "link", "retry-after"],
];

/** What may follow `/v2/<repository>/` (OCI distribution specification): `manifests/1`, `blobs/sha256:…`. */
const ITEM = /^[a-z]+\/[A-Za-z0-9._:+=-]+$/;

/** How a relay reaches its registry. */
export interface RelayTarget {
  /** `https://r.example:5000` */
  origin: string;
  repository: string;
  token: string;
  client: Deno.HttpClient;
}

/**
 * A registry on loopback that reads one repository of a real one with a bearer token. skopeo takes a token only on its
 * command line, where every user of the node could read it; a name and a password it takes from a file. So it asks
 * here, with a login made for this relay, and the token never leaves this process but to the registry itself: not to
 * the hosts that the registry redirects to.
 */
export class TokenRelay implements AsyncDisposable {
  /** `127.0.0.1:PORT` */
  readonly address: string;
  /** The only one that it answers to, as containers-auth.json(5) has it. */
  readonly login: { auth: string };
  /** Why the registry could not be asked, the last time it was; undefined when it could. */
  failure: string | undefined;
  readonly #ending = new AbortController();
  readonly #server: Deno.HttpServer<Deno.NetAddr>;

  constructor(private readonly target: RelayTarget) {
    const password = crypto.getRandomValues(new Uint8Array(PASSWORD_BYTES)).toHex();
    this.login = { auth: btoa(`multicri:${password}`) };
    this.#server = Deno.serve({
      hostname: "127.0.0.1",
      port: 0,
      signal: this.#ending.signal,
      onListen: () => {},
    }, (request) => this.#answer(request));
    this.address = `127.0.0.1:${this.#server.addr.port}`;
  }

  /**
   * Opens one to `registry`, by https with the certificates that the node has for it.
   * @throws CriError FAILED_PRECONDITION where this process may not reach any host, or cannot use those certificates.
   */
  static async open(
    registry: string,
    repository: string,
    token: string,
  ): Promise<TokenRelay> {
    if ((await Deno.permissions.query({ name: "net" })).state !== "granted") {
      throw new CriError(
        "FAILED_PRECONDITION",
        `Cannot use a bearer token (registry_token) for ${registry} as multicri itself must reach the registry, and may ` +
          "reach the named clusters only (--allowed-clusters): give username and password, auth, or identity_token.",
      );
    }
    // What docker.io's API goes by, as for every client.
    const host = registry === "docker.io" ? "registry-1.docker.io" : registry;
    const client = clientOf(registry, await registryCertificates(registry));
    return new TokenRelay({ origin: `https://${host}`, repository, token, client });
  }

  /**
   * registries.conf(5): what is asked of `registry` for the repository is asked here. The image keeps its name, which
   * policy.json(5) goes by.
   */
  registriesConf(registry: string): string {
    const { repository } = this.target;
    return `[[registry]]
prefix = "${registry}/${repository}"
location = "${this.address}/${repository}"
insecure = true
`;
  }

  /** Ends it and whatever it still does. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#ending.abort();
    await this.#server.finished;
    this.target.client.close();
  }

  async #answer(request: Request): Promise<Response> {
    if (request.headers.get("authorization") !== `Basic ${this.login.auth}`) {
      const headers = { "www-authenticate": 'Basic realm="multicri"' };
      return new Response(null, { status: 401, headers });
    }
    const { pathname, search } = new URL(request.url);
    const base = `/v2/${this.target.repository}/`;
    const known = pathname.startsWith(base) && ITEM.test(pathname.slice(base.length));
    if (!known || !["GET", "HEAD"].includes(request.method)) {
      return new Response(null, { status: 404 });
    }
    try {
      const response = await this.#ask(request, new URL(pathname + search, this.target.origin));
      this.failure = undefined;
      const headers = picked(response.headers, RESPONSE_HEADERS);
      return new Response(response.body, { status: response.status, headers });
    } catch (error) {
      this.failure = messageOf(error);
      return new Response(null, { status: 502 });
    }
  }

  /** @throws Error that says which host failed and why, without a path or query: those of blob storages are secret. */
  async #ask(request: Request, first: URL): Promise<Response> {
    let url = first;
    for (let redirects = 0; redirects <= MAX_REDIRECTS; redirects++) {
      const headers = picked(request.headers, REQUEST_HEADERS);
      headers.set("accept-encoding", "identity");
      if (url.origin === first.origin) {
        headers.set("authorization", `Bearer ${this.target.token}`);
      }
      const response = await fetch(url, {
        method: request.method,
        headers,
        signal: this.#ending.signal,
        redirect: "manual",
        client: this.target.client,
      }).catch((error) => {
        throw new Error(`${url.host} cannot be asked: ${reasonOf(error)}`);
      });
      const location = response.headers.get("location");
      if (response.status < 300 || response.status >= 400 || location === null) return response;
      await response.body?.cancel();
      const next = URL.parse(location, url);
      // fetch() would read files as well.
      if (next === null || !/^https?:$/.test(next.protocol)) {
        throw new Error(`${url.host} redirects to an address that is not of the web`);
      }
      url = next;
    }
    throw new Error(`${first.host} redirects more than ${MAX_REDIRECTS} times`);
  }
}

function clientOf(registry: string, caCerts: string[]): Deno.HttpClient {
  try {
    return Deno.createHttpClient({ caCerts });
  } catch (error) {
    throw new CriError(
      "FAILED_PRECONDITION",
      `Cannot use the certificates for ${registry} in certs.d as they must be PEM: ${
        messageOf(error)
      }`,
      { cause: error },
    );
  }
}

function picked(headers: Headers, names: readonly string[]): Headers {
  return new Headers(
    names.flatMap((name) => {
      const value = headers.get(name);
      return value === null ? [] : [[name, value] as [string, string]];
    }),
  );
}

/** Deno says `error sending request for url (URL): reason` in the cause; no URL has a space. */
function reasonOf(error: unknown): string {
  const { cause } = error as Error;
  if (!(cause instanceof Error)) {
    return messageOf(error).replaceAll(/\S+:\/\/\S+/g, "its address");
  }
  return messageOf(cause).replace(/^.*?\): /s, "")
    // rustls takes no certificate for an authority's and a server's at once.
    .replace(/\S*CaUsedAsEndEntity\S*/, "it signs itself, and an authority must have signed it");
}
