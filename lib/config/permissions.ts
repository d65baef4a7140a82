import { INHERITED_VARIABLES } from "../executors/local.ts";
import { type Clusters, LOGIN_VARIABLES, reachableAddresses } from "./clusters.ts";
import type { ClusterAddress, Config } from "./flags.ts";
import { SITE_VARIABLES } from "./site_command.ts";

/** Programs the server may start, by the names they have in PATH. */
export const PROGRAMS = ["apptainer", "skopeo"] as const;

/** Where systemd leaves the sign that it is the init system (sd_booted(3)). */
export const SYSTEMD_SIGN = "/run/systemd/system";

/** Variables that libraries read: grpc-js, ws, ssh2 (through node:), and Node's own debug switches. */
const LIBRARY_VARIABLES = [
  "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
  "GRPC_EXPERIMENTAL_ENABLE_OUTLIER_DETECTION",
  "GRPC_NODE_DEBUG_SEND_ERROR_DETAILS",
  "GRPC_NODE_TRACE",
  "GRPC_NODE_USE_ALTERNATIVE_RESOLVER",
  "GRPC_NODE_VERBOSITY",
  "GRPC_SSL_CIPHER_SUITES",
  "GRPC_TRACE",
  "GRPC_VERBOSITY",
  "WS_NO_BUFFER_UTIL",
  "WS_NO_UTF_8_VALIDATE",
];

/** Our own variables. */
const OWN_VARIABLES = [
  "CRI_SLURM_BUILD_IN_CLUSTER",
  "CRI_SLURM_IMAGE_REMOTE_MOUNT",
  "CRI_SLURM_MOUNT_PATH",
  "CRI_SLURM_SITE_IMAGES",
];

const ENVIRONMENT_FLAG = `--allow-env=${
  [...OWN_VARIABLES, ...LIBRARY_VARIABLES, ...INHERITED_VARIABLES].join(",")
}`;

/** What `multicri jobs` needs: the server's socket, the clusters, and the pinned host keys; it starts no program. */
export function jobsPermissionFlags(config: Config, clusters: Clusters): string[] {
  const socket = config.socketPath;
  const addresses = reachableAddresses(clusters)?.map(addressText);
  const net = addresses === undefined ? "" : `=unix:${socket},${addresses.join(",")}`;
  const read = [
    socket,
    config.rootDir,
    ...(config.clustersFile === undefined ? [] : [config.clustersFile]),
  ];
  return [
    "--no-prompt",
    `--allow-net${net}`,
    `--allow-read=${read.join(",")}`,
    `--allow-write=${[socket, config.rootDir].join(",")}`,
    `${ENVIRONMENT_FLAG},${LOGIN_VARIABLES.join(",")}`,
  ];
}

/** What --help and --version need: the libraries read their variables when they are loaded. */
export const HELP_PERMISSION_FLAGS: readonly string[] = ["--no-prompt", ENVIRONMENT_FLAG];

/**
 * Deno's permission flags for a configuration, as narrow as Deno can express them: exact paths, named
 * programs and variables. Only the network is wide where no clusters are named, because pods name them.
 */
export function permissionFlags(config: Config, clusters: Clusters): string[] {
  const remoteSockets = config.remotes.map(({ socketPath }) => socketPath);
  const paths = [
    config.socketPath,
    ...remoteSockets,
    config.rootDir,
    config.stateDir,
    config.resourcesCachePath,
    config.podLogsDir,
  ];
  const stream = { host: config.streamAddr, port: config.streamPort };
  const addresses = reachableAddresses(clusters)?.concat(stream).map(addressText);
  // A unix socket needs the same path in net, read and write.
  const net = addresses === undefined ? "" : `=${
    [
      ...[config.socketPath, ...remoteSockets].map((path) => `unix:${path}`),
      ...new Set(addresses),
    ]
      .join(",")
  }`;
  // Volumes that the kubelet writes for pods, which their jobs get copies of; termination messages are written there.
  const kubeletPods = `${config.kubeletRootDir}/pods`;
  const read = [
    ...paths,
    kubeletPods,
    SYSTEMD_SIGN,
    ...[config.clustersFile, config.registryCredentials].filter((path) => path !== undefined),
  ];
  return [
    "--no-prompt",
    `--allow-net${net}`,
    `--allow-read=${read.join(",")}`,
    `--allow-write=${[...paths, kubeletPods].join(",")}`,
    `--allow-run=${PROGRAMS.join(",")}`,
    ENVIRONMENT_FLAG,
    "--allow-sys=networkInterfaces",
  ];
}

/** What `multicri images` needs: the clusters whose logins the node keeps, and the pinned host keys. */
export function imagesPermissionFlags(config: Config, clusters: Clusters): string[] {
  const addresses = [...clusters.named.values()].map(({ login }) => addressText(login));
  const clustersFile = config.clustersFile === undefined ? [] : [config.clustersFile];
  return [
    "--no-prompt",
    ...(addresses.length === 0 ? [] : [`--allow-net=${addresses.join(",")}`]),
    `--allow-read=${[config.rootDir, ...clustersFile].join(",")}`,
    `--allow-write=${config.rootDir}`,
    ENVIRONMENT_FLAG,
  ];
}

/** What `multicri site` needs: the clusters, and the pinned host keys. */
export function sitePermissionFlags(config: Config, clusters: Clusters): string[] {
  const addresses = reachableAddresses(clusters)?.map(addressText);
  const clustersFile = config.clustersFile === undefined ? [] : [config.clustersFile];
  return [
    "--no-prompt",
    `--allow-net${addresses === undefined ? "" : `=${addresses.join(",")}`}`,
    `--allow-read=${[config.rootDir, ...clustersFile].join(",")}`,
    `--allow-write=${config.rootDir}`,
    `${ENVIRONMENT_FLAG},${[...LOGIN_VARIABLES, ...SITE_VARIABLES].join(",")}`,
  ];
}

function addressText({ host, port }: ClusterAddress): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
