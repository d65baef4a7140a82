import { parse } from "@std/yaml";
import { messageOf } from "../base/error.ts";
import type { ClusterLogin, JumpLogin } from "../executors/ssh/login.ts";
import { parsePrivateKey } from "../executors/ssh/private_key.ts";
import { type ClusterAddress, type Config, SSH_PORT } from "./flags.ts";
import { UsageError } from "./usage_error.ts";

/** A login that the node keeps. */
export interface KeptLogin {
  login: ClusterLogin;
  /** The namespaces whose pods may use it; undefined: all. */
  namespaces: readonly string[] | undefined;
  /** Whether what pods ask for may run outside of containers as the shared user: CLUSTER_CONFIG, MPI, builds. */
  prerun: boolean;
}

/** Whose login a container uses: its own, or one that the node keeps under a name. */
export type ClusterChoice =
  | { kind: "own"; login: ClusterLogin }
  | { kind: "named"; name: string };

/** Which clusters pods may use, and how. */
export interface Clusters {
  /** Addresses that a pod may name with credentials of its own; empty means any. */
  allowed: readonly ClusterAddress[];
  /** Logins that the node keeps, by the cluster's name. */
  named: ReadonlyMap<string, KeptLogin>;
  /** The cluster of pods that name none. */
  defaultName: string | undefined;
}

/** Variables of a pod, or of an administrator's command, that are a login. */
export const LOGIN_VARIABLES = [
  "CLUSTER_HOST",
  "CLUSTER_PORT",
  "CLUSTER_USERNAME",
  "CLUSTER_PASSWORD",
  "CLUSTER_KEYVALUE",
  "CLUSTER_JUMP_HOST",
  "CLUSTER_JUMP_PORT",
  "CLUSTER_JUMP_USERNAME",
  "CLUSTER_JUMP_PASSWORD",
  "CLUSTER_JUMP_KEYVALUE",
] as const;

/** A name that can stand in an annotation and in messages. */
const NAME = /^[\w.-]{1,63}$/;

/**
 * Reads `--clusters-file` (YAML) and joins it with `--allowed-clusters`:
 *
 * ```yaml
 * default: hpc # optional
 * clusters:
 *   hpc: { host: login.example.org, user: alice, password: … }
 *   # also port, privateKey and passphrase, namespaces (a list), prerun (true or false), and jump: a host to go
 *   # through, with the keys of a login
 * ```
 *
 * @throws UsageError with a sentence naming the file and the entry that cannot be used, never its secrets.
 */
export function readClusters(config: Config): Clusters {
  const allowed = config.allowedClusters;
  const path = config.clustersFile;
  if (path === undefined) return { allowed, named: new Map(), defaultName: undefined };
  const refuse = (what: string): UsageError =>
    new UsageError(`Cannot use --clusters-file ${path}: ${what}.`);
  let text: string;
  try {
    const { mode } = Deno.statSync(path);
    if (((mode ?? 0) & 0o077) !== 0) {
      throw refuse("it holds secrets and must be readable by its owner only (chmod 600)");
    }
    text = Deno.readTextFileSync(path);
  } catch (error) {
    throw error instanceof UsageError ? error : refuse(messageOf(error));
  }
  let file: Record<string, unknown>;
  try {
    file = record(parse(text));
  } catch (error) {
    // The parser's message quotes the line, which may hold a password; only the place is told.
    const place = /at line \d+, column \d+/.exec(messageOf(error))?.[0] ?? "";
    throw refuse(`it is not YAML${place === "" ? "" : ` ${place}`}`);
  }
  const named = new Map<string, KeptLogin>();
  for (const [name, entry] of Object.entries(record(file["clusters"]))) {
    if (!NAME.test(name)) {
      throw refuse(
        `the cluster's name ${JSON.stringify(name)} must be letters, digits, '.', '_', '-'`,
      );
    }
    named.set(name, readKept(record(entry), (what) => refuse(`cluster ${name}: ${what}`)));
  }
  if (named.size === 0) throw refuse("it must name clusters, under the key 'clusters'");
  const defaultName = file["default"];
  if (defaultName !== undefined && (typeof defaultName !== "string" || !named.has(defaultName))) {
    throw refuse(`its default must be one of ${[...named.keys()].join(", ")}`);
  }
  return { allowed, named, defaultName };
}

/** All addresses that the server may have to connect to; undefined when pods may name any. */
export function reachableAddresses(clusters: Clusters): ClusterAddress[] | undefined {
  if (clusters.allowed.length === 0) return undefined;
  return [
    ...clusters.allowed,
    ...[...clusters.named.values()].map(({ login }) => {
      const { host, port } = login.jump ?? login;
      return { host, port };
    }),
  ];
}

function readKept(
  entry: Record<string, unknown>,
  refuse: (what: string) => UsageError,
): KeptLogin {
  const { namespaces, prerun = false, ...login } = entry;
  const isNames = Array.isArray(namespaces) && namespaces.every((name) => typeof name === "string");
  if (namespaces !== undefined && !isNames) throw refuse("'namespaces' must be a list of names");
  if (typeof prerun !== "boolean") throw refuse("'prerun' must be true or false");
  return { login: readLogin(login, refuse), namespaces: isNames ? namespaces : undefined, prerun };
}

function readLogin(
  entry: Record<string, unknown>,
  refuse: (what: string) => UsageError,
): ClusterLogin {
  const { jump, ...own } = entry;
  const login = readOneLogin(own, refuse);
  if (jump === undefined) return login;
  return {
    ...login,
    jump: readOneLogin(record(jump), (what) => refuse(`its jump host: ${what}`)),
  };
}

function readOneLogin(
  entry: Record<string, unknown>,
  refuse: (what: string) => UsageError,
): JumpLogin {
  const known = ["host", "port", "user", "password", "privateKey", "passphrase"];
  const unknown = Object.keys(entry).find((key) => !known.includes(key));
  if (unknown !== undefined) {
    throw refuse(
      `unknown key '${unknown}'; known are ${known.join(", ")}, jump, namespaces, prerun`,
    );
  }
  const text = (key: string): string | undefined => {
    const value = entry[key];
    if (value === undefined) return undefined;
    if (typeof value !== "string" || value === "") {
      throw refuse(`'${key}' must be a text that is not empty; put a number into quotes`);
    }
    return value;
  };
  const [host, user] = [text("host"), text("user")];
  if (host === undefined || user === undefined) throw refuse("'host' and 'user' must be set");
  const port = entry["port"] ?? SSH_PORT;
  if (typeof port !== "number" || !Number.isInteger(port) || port < 1 || port > 65535) {
    throw refuse("'port' must be a number from 1 to 65535");
  }
  const [password, key, passphrase] = [text("password"), text("privateKey"), text("passphrase")];
  if (password === undefined && key === undefined) {
    throw refuse("'password' or 'privateKey' must be set");
  }
  try {
    return {
      host,
      port,
      user,
      ...(password === undefined ? {} : { password }),
      ...(key === undefined ? {} : { privateKey: parsePrivateKey(key, passphrase) }),
    };
  } catch (error) {
    throw refuse(messageOf(error));
  }
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? value as Record<string, unknown>
    : {};
}
