import { CriError } from "../base/error.ts";
import type { AuthConfig } from "../cri/api.generated.ts";

/** One registry's entry of a containers-auth.json(5) file. */
export type RegistryAuth = { auth: string } | { auth: string; identitytoken: string };

/** A bearer token (RFC 6750) that a registry takes as it is. */
export interface BearerToken {
  registryToken: string;
}

/** What a registry is shown. */
export type RegistryCredentials = RegistryAuth | BearerToken;

/** What may stand in an Authorization header (RFC 6750, section 2.1). */
const TOKEN = /^[A-Za-z0-9._~+/-]+=*$/;

/**
 * The credentials that may be sent to `registry`, undefined for none.
 *
 * For an image name with the `multicri/` prefix the kubelet looked up secrets for docker.io and never says
 * which server they are for, so they go to docker.io and nowhere else: whoever names an image must not be
 * able to have the node's Docker Hub password sent to a registry of his own.
 *
 * @throws CriError INVALID_ARGUMENT for a bearer token that no client can send, and for an `auth` that is none.
 */
export function credentialsFor(
  registry: string,
  prefixed: boolean,
  auth: AuthConfig | undefined,
): RegistryCredentials | undefined {
  if (auth === undefined) return undefined;
  if (whyNotSent(registry, prefixed, auth) !== undefined) return undefined;
  if (auth.registryToken !== "") {
    if (TOKEN.test(auth.registryToken)) return { registryToken: auth.registryToken };
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot use the bearer token (registry_token) for ${registry} as it must be letters, digits and ._~+/- with = at ` +
        "its end: it has other characters.",
    );
  }
  if (auth.identityToken !== "") {
    return { auth: base64(`${auth.username || "<token>"}:`), identitytoken: auth.identityToken };
  }
  if (auth.auth !== "") return { auth: basicAuth(auth.auth, registry) };
  if (auth.username !== "" || auth.password !== "") {
    return { auth: base64(`${auth.username}:${auth.password}`) };
  }
  return undefined;
}

/** The base64 of "user:password", as containers-auth.json(5) has it; what is in it is never repeated. */
function basicAuth(auth: string, registry: string): string {
  try {
    const decoded = Uint8Array.fromBase64(auth);
    if (decoded.includes(":".charCodeAt(0))) return decoded.toBase64();
  } catch {
    // Not base64.
  }
  throw new CriError(
    "INVALID_ARGUMENT",
    `Cannot use the credentials (auth) for ${registry} as they must be the base64 of "user:password": they are not.`,
  );
}

/**
 * Why credentials that came are not sent to `registry`, as a part of a sentence; undefined when none came or they are.
 */
export function whyNotSent(
  registry: string,
  prefixed: boolean,
  auth: AuthConfig | undefined,
): string | undefined {
  if (auth === undefined) return undefined;
  const { username, password, identityToken, registryToken } = auth;
  if (![username, password, auth.auth, identityToken, registryToken].some((part) => part !== "")) {
    return undefined;
  }
  const server = serverHost(auth.serverAddress);
  if (server !== "") {
    return server === registry ? undefined : `they are for ${JSON.stringify(server)}`;
  }
  return prefixed && registry !== "docker.io"
    ? "with multicri/ before the image they go to docker.io only; write the name without it, or use " +
      "--registry-credentials"
    : undefined;
}

/** `https://index.docker.io/v1/` and its like name docker.io, as in every docker config.json. */
function serverHost(address: string): string {
  const host = address.replace(/^[a-z]+:\/\//i, "").replace(/\/.*$/s, "");
  return ["index.docker.io", "registry-1.docker.io", "docker.io"].includes(host)
    ? "docker.io"
    : host;
}

function base64(text: string): string {
  return new TextEncoder().encode(text).toBase64();
}

/** Whether it is a bearer token. */
export function isBearerToken(auth: RegistryCredentials | undefined): auth is BearerToken {
  return auth !== undefined && "registryToken" in auth;
}
