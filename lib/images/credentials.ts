import { CriError } from "../base/error.ts";
import type { AuthConfig } from "../cri/api.generated.ts";

/** One registry's entry of a containers-auth.json(5) file. */
export type RegistryAuth = { auth: string } | { auth: string; identitytoken: string };

/**
 * The credentials that may be sent to `registry`, undefined for none.
 *
 * For an image name with the `multicri/` prefix the kubelet looked up secrets for docker.io and never says
 * which server they are for, so they go to docker.io and nowhere else: whoever names an image must not be
 * able to have the node's Docker Hub password sent to a registry of his own.
 *
 * @throws CriError INVALID_ARGUMENT for forms that no client can use.
 */
export function credentialsFor(
  registry: string,
  prefixed: boolean,
  auth: AuthConfig | undefined,
): RegistryAuth | undefined {
  if (auth === undefined) return undefined;
  const server = serverHost(auth.serverAddress);
  if (server !== "" && server !== registry) return undefined;
  if (prefixed && server === "" && registry !== "docker.io") return undefined;
  if (auth.registryToken !== "") {
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot use a bearer token (registry_token) for ${registry}, as skopeo takes one only on its command line, ` +
        "where others could read it: give username and password, auth, or identity_token.",
    );
  }
  if (auth.identityToken !== "") {
    return { auth: base64(`${auth.username || "<token>"}:`), identitytoken: auth.identityToken };
  }
  if (auth.auth !== "") return { auth: auth.auth };
  if (auth.username !== "" || auth.password !== "") {
    return { auth: base64(`${auth.username}:${auth.password}`) };
  }
  return undefined;
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
