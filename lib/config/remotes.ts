import { isAbsolute, normalize } from "@std/path";

/** Another CRI runtime on this node. */
export interface RemoteEndpoint {
  name: string;
  /** Its unix socket: absolute, normalised. */
  socketPath: string;
}

/** A RuntimeClass handler that a remote runtime knows by a name of its own. */
export interface HandlerMapping {
  handler: string;
  /** Name of the remote runtime. */
  remote: string;
  /** The remote's own name for the handler; empty for its default one. */
  remoteHandler: string;
}

/** The handler and backend that is always this program's own runtime. */
export const OWN_NAME = "multicri";

/** RuntimeClass.handler (node.k8s.io/v1) must be a DNS label, RFC 1123; names of remotes are handlers too. */
const DNS_LABEL = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

/** What a remote may call its handlers; containerd's are keys of its configuration. */
const REMOTE_HANDLER = /^[\w.-]{0,253}$/;

/**
 * Reads `name:endpoint,…`, where an endpoint is the path of a unix socket, also as `unix://`, and not our own.
 * @throws {Error} with a sentence that says what of the entry cannot be used.
 */
export function parseRemotes(list: string, ownSocketPath: string): RemoteEndpoint[] {
  const remotes: RemoteEndpoint[] = [];
  for (const entry of list.split(",").filter((entry) => entry !== "")) {
    const colon = entry.indexOf(":");
    const name = colon === -1 ? "" : entry.slice(0, colon).trim();
    const endpoint = entry.slice(colon + 1).trim();
    if (!DNS_LABEL.test(name)) {
      throw new Error(
        `Cannot use the remote runtime '${entry}': it must be name:endpoint, and the name lower-case ` +
          "letters, digits and dashes, as a RuntimeClass's handler.",
      );
    }
    if (name === OWN_NAME) {
      throw new Error(`Cannot name a remote runtime '${OWN_NAME}': that is this runtime itself.`);
    }
    const socketPath = socketOf(endpoint, entry);
    if (withoutAlias(socketPath) === withoutAlias(ownSocketPath)) {
      throw new Error(
        `Cannot use the remote runtime '${entry}': ${ownSocketPath} is the socket that multicri serves itself.`,
      );
    }
    const twin = remotes.find((other) =>
      other.name === name || withoutAlias(other.socketPath) === withoutAlias(socketPath)
    );
    if (twin?.name === name) {
      throw new Error(`Cannot name two remote runtimes '${name}': give each a name of its own.`);
    }
    if (twin !== undefined) {
      throw new Error(
        `Cannot use the socket ${socketPath} for '${twin.name}' and '${name}': name it once, and add ` +
          `--runtime-handlers ${name}=${twin.name}.`,
      );
    }
    remotes.push({ name, socketPath });
  }
  return remotes;
}

/** /var/run is a link to /run on every distribution with systemd. */
function withoutAlias(path: string): string {
  return path.replace(/^\/var\/run\//, "/run/");
}

function socketOf(endpoint: string, entry: string): string {
  const path = endpoint.startsWith("unix://") ? endpoint.slice("unix://".length) : endpoint;
  // deno-lint-ignore no-control-regex
  if (isAbsolute(path) && !/[\x00-\x1f\x7f]/.test(path)) return normalize(path);
  const scheme = /^(\w+):/.exec(path)?.[1];
  throw new Error(
    `Cannot use the remote runtime '${entry}': its endpoint must be the path of a unix socket, with or without ` +
      `unix://${scheme === undefined ? "" : `, not ${scheme}`}.`,
  );
}

/**
 * Reads `handler=remote[/remote's handler],…`.
 * @throws {Error} with a sentence that says what of the entry cannot be used.
 */
export function parseHandlers(list: string, remotes: readonly RemoteEndpoint[]): HandlerMapping[] {
  const mappings: HandlerMapping[] = [];
  for (const entry of list.split(",").filter((entry) => entry !== "")) {
    const [, handler = "", remote = "", remoteHandler = ""] =
      /^\s*([^=]*)=([^/]*)(?:\/(.*?))?\s*$/s.exec(entry) ?? [];
    if (!DNS_LABEL.test(handler) || !REMOTE_HANDLER.test(remoteHandler)) {
      throw new Error(
        `Cannot use the runtime handler '${entry}': it must be handler=remote or handler=remote/its-handler, and ` +
          "the first lower-case letters, digits and dashes, as in the RuntimeClass.",
      );
    }
    if (!remotes.some(({ name }) => name === remote)) {
      const known = remotes.map(({ name }) => `'${name}'`).join(", ") || "none";
      throw new Error(
        `Cannot use the runtime handler '${entry}': there is no remote runtime '${remote}'; ` +
          `--remote-runtime-endpoints names ${known}.`,
      );
    }
    const taken = [OWN_NAME, ...remotes.map(({ name }) => name), ...mappings.map((m) => m.handler)];
    if (taken.includes(handler)) {
      throw new Error(`Cannot use the runtime handler '${entry}': '${handler}' is taken already.`);
    }
    mappings.push({ handler, remote, remoteHandler });
  }
  return mappings;
}
