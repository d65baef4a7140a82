import { CriError } from "../../base/error.ts";
import { type ClusterChoice, type Clusters, LOGIN_VARIABLES } from "../../config/clusters.ts";
import { type ClusterAddress, SSH_PORT } from "../../config/flags.ts";
import type { KeyValue, PodSandboxConfig } from "../../cri/api.generated.ts";
import type { ClusterLogin } from "../../executors/ssh/login.ts";
import { parsePrivateKey } from "../../executors/ssh/private_key.ts";
import {
  CLUSTER_ANNOTATION,
  JOB_VARIABLES,
  type JobOptions,
  readJobOptions,
  unusable,
} from "./job_options.ts";
import { type MpiSettings, readMpi, unusedMpi } from "./mpi.ts";
import { checkSettings } from "./shared_login.ts";

export interface Variable {
  name: string;
  value: string;
}

/** What the environment of a container and its pod's annotations say, taken apart. */
export interface ContainerSettings extends JobOptions {
  cluster: ClusterChoice;
  /** CLUSTER_CONFIG: a script that runs in the job before the container. */
  prerun: string;
  /** How the ranks of an MPI job are started; undefined for a program that runs once. */
  mpi?: MpiSettings;
  /** What the program in the container gets. */
  program: Variable[];
}

/** Names that are for us and never reach the program, beside CLUSTER_* and KUBERNETES_*. */
const RESERVED_NAMES = new Set([
  ...JOB_VARIABLES,
  "MPI_VERSION",
  "MPI_FLAGS",
]);

/**
 * Takes a container's environment apart; a later value of a name wins.
 * @throws CriError INVALID_ARGUMENT for a value that cannot be used, PERMISSION_DENIED for a cluster, or for
 * what the administrator does not allow with its login.
 */
export function readSettings(
  envs: readonly KeyValue[],
  sandbox: Pick<PodSandboxConfig, "annotations" | "metadata">,
  clusters: Clusters,
): ContainerSettings {
  if (envs.some(({ key }) => key === "")) {
    throw new CriError(
      "INVALID_ARGUMENT",
      "Cannot pass on a variable of the container: its name must not be empty.",
    );
  }
  const all = new Map(envs.map(({ key, value }) => [key, decode(key, value)]));
  const cluster = chooseCluster(all, sandbox, clusters);
  const mpi = readMpi(all, sandbox.annotations);
  const options = readJobOptions(all, sandbox.annotations);
  const unused = cluster.kind === "own" && Object.hasOwn(sandbox.annotations, CLUSTER_ANNOTATION)
    ? [
      `the annotation ${
        JSON.stringify(CLUSTER_ANNOTATION)
      }: the container's own CLUSTER_ variables win`,
    ]
    : [];
  const settings: ContainerSettings = {
    cluster,
    ...(mpi === undefined ? {} : { mpi }),
    ...options,
    ignoredLines: [
      ...unused,
      ...(mpi === undefined ? unusedMpi(all, sandbox.annotations) : []),
      ...options.ignoredLines,
    ],
    prerun: all.get("CLUSTER_CONFIG") ?? "",
    program: [...all].filter(([name]) => !isReserved(name)).map(([name, value]) => ({
      name,
      value,
    })),
  };
  checkSettings(settings, clusters);
  return settings;
}

/** Whether a variable is for multicri and not for the program. */
export function isReserved(name: string): boolean {
  return RESERVED_NAMES.has(name) || /^(CLUSTER|KUBERNETES)_/.test(name);
}

/** Credentials in the container win; then the pod's annotation, then the node's default. */
function chooseCluster(
  all: ReadonlyMap<string, string>,
  { annotations, metadata }: Pick<PodSandboxConfig, "annotations" | "metadata">,
  clusters: Clusters,
): ClusterChoice {
  const annotated = Object.hasOwn(annotations, CLUSTER_ANNOTATION)
    ? annotations[CLUSTER_ANNOTATION]
    : undefined;
  const name = annotated ?? clusters.defaultName;
  const own = LOGIN_VARIABLES.some((variable) => (all.get(variable) ?? "").trim() !== "");
  if (own || name === undefined) return { kind: "own", login: readLogin(all, clusters.allowed) };
  const kept = clusters.named.get(name);
  if (kept === undefined) {
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot use the annotation ${CLUSTER_ANNOTATION} as it must be ${
        [...clusters.named.keys()].join(" or ") || "left out on this node"
      }: current value is ${JSON.stringify(name)}.`,
    );
  }
  if (kept.namespaces !== undefined && !kept.namespaces.includes(metadata?.namespace ?? "")) {
    throw new CriError(
      "PERMISSION_DENIED",
      `Cannot use the node's login for the cluster ${name} in the namespace ${metadata?.namespace}: the ` +
        "administrator allows other namespaces only (--clusters-file).",
    );
  }
  return { kind: "named", name };
}

/** @throws CriError NOT_FOUND when the node no longer keeps a login of that name. */
export function loginOf(choice: ClusterChoice, clusters: Clusters): ClusterLogin {
  if (choice.kind === "own") return choice.login;
  const kept = clusters.named.get(choice.name);
  if (kept !== undefined) return kept.login;
  throw new CriError(
    "NOT_FOUND",
    `Cannot log in to the cluster ${choice.name}: the file of --clusters-file no longer names it.`,
  );
}

function readLogin(
  all: ReadonlyMap<string, string>,
  allowed: readonly ClusterAddress[],
): ClusterLogin {
  for (const name of ["CLUSTER_HOST", "CLUSTER_USERNAME"]) required(all, name);
  const login = {
    ...readAddress(all, "CLUSTER", allowed),
    user: readUser("CLUSTER_USERNAME", required(all, "CLUSTER_USERNAME")),
  };
  const credentials = readCredentials(all, "CLUSTER");
  if (credentials === undefined) {
    throw new CriError(
      "INVALID_ARGUMENT",
      "Cannot log in to the cluster: CLUSTER_PASSWORD or CLUSTER_KEYVALUE must be set in the environment.",
    );
  }
  if (!JUMP_VARIABLES.some((name) => (all.get(name) ?? "").trim() !== "")) {
    return { ...login, ...credentials };
  }
  const jumpUser = (all.get("CLUSTER_JUMP_USERNAME") ?? "").trim() || login.user;
  return {
    ...login,
    ...credentials,
    jump: {
      ...readAddress(all, "CLUSTER_JUMP", allowed),
      user: readUser("CLUSTER_JUMP_USERNAME", jumpUser),
      ...(readCredentials(all, "CLUSTER_JUMP") ?? credentials),
    },
  };
}

const JUMP_VARIABLES = LOGIN_VARIABLES.filter((name) => name.startsWith("CLUSTER_JUMP_"));

/** The host and port of `PREFIX_HOST` and `PREFIX_PORT`, which the administrator must allow. */
function readAddress(
  all: ReadonlyMap<string, string>,
  prefix: string,
  allowed: readonly ClusterAddress[],
): ClusterAddress {
  const host = required(all, `${prefix}_HOST`);
  if (!/^[\w.:%-]+$/.test(host)) throw unusable(`${prefix}_HOST`, "a host name or address", host);
  const portText = (all.get(`${prefix}_PORT`) ?? "").trim() || String(SSH_PORT);
  const port = Number(portText);
  if (!/^\d{1,5}$/.test(portText) || port < 1 || port > 65535) {
    throw unusable(`${prefix}_PORT`, "a port number from 1 to 65535", portText);
  }
  if (allowed.length > 0 && !allowed.some((one) => one.host === host && one.port === port)) {
    throw new CriError(
      "PERMISSION_DENIED",
      `Cannot use the cluster ${host}:${port}: the administrator allows ` +
        `${allowed.map((one) => `${one.host}:${one.port}`).join(", ")} only (--allowed-clusters).`,
    );
  }
  return { host, port };
}

function readUser(name: string, user: string): string {
  if (!/^[\w.@\\+-]+$/.test(user)) throw unusable(name, "a user name", user);
  return user;
}

function readCredentials(all: ReadonlyMap<string, string>, prefix: string) {
  const password = all.get(`${prefix}_PASSWORD`);
  const key = all.get(`${prefix}_KEYVALUE`);
  if (!password && !key) return undefined;
  return {
    ...(password ? { password } : {}),
    ...(key ? { privateKey: parsePrivateKey(key) } : {}),
  };
}

function required(all: ReadonlyMap<string, string>, name: string): string {
  const value = (all.get(name) ?? "").trim();
  if (value === "") {
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot log in to the cluster: ${name} must be set in the environment.`,
    );
  }
  return value;
}

function decode(name: string, value: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(value);
  } catch {
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot pass on the variable ${name}: its value must be UTF-8 text.`,
    );
  }
}
