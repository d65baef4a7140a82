import { INHERITED_VARIABLES } from "../executors/local.ts";
import { type Clusters, LOGIN_VARIABLES, reachableAddresses } from "./clusters.ts";
import { LIBCNI_RESULTS_DIRECTORY, NETNS_DIRECTORY, NETWORK_PROGRAMS } from "./network_place.ts";
import type { ClusterAddress, Config } from "./flags.ts";
import { SITE_VARIABLES } from "./site_command.ts";

/** Programs the server may start, by the names they have in PATH. */
export const PROGRAMS = ["apptainer", "skopeo", "ssh"] as const;
/** More of them for containers on this node; what else happens there happens below these. */
const NODE_PROGRAMS = ["crun", "nsenter", "perl", "sh"] as const;

/** Where the node keeps certificates of registries (containers-certs.d(5)), docker's place last. */
export const CERTIFICATE_DIRECTORIES = [
  "/etc/containers/certs.d",
  "/etc/docker/certs.d",
] as const;

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
  // Read by node:child_process for each program.
  "NODE_V8_COVERAGE",
  "WS_NO_BUFFER_UTIL",
  "WS_NO_UTF_8_VALIDATE",
];

/** Our own variables. */
const OWN_VARIABLES = [
  "CRI_SLURM_BUILD_IN_CLUSTER",
  "CRI_SLURM_IMAGE_REMOTE_MOUNT",
  "CRI_SLURM_MOUNT_PATH",
  "CRI_SLURM_SITE_IMAGES",
  "CRI_SLURM_FOLLOW",
];

const ENVIRONMENT_FLAG = `--allow-env=${
  [...OWN_VARIABLES, ...LIBRARY_VARIABLES, ...INHERITED_VARIABLES].join(",")
}`;

/**
 * What `multicri jobs` and `multicri images` need: the clusters, the pinned host keys and the server's socket; they
 * start no program.
 */
export function commandPermissionFlags(config: Config, clusters: Clusters): string[] {
  const addresses = reachableAddresses(clusters)?.map(addressText);
  const net = addresses === undefined
    ? ""
    : `=${[`unix:${config.socketPath}`, ...addresses].join(",")}`;
  const read = [
    config.socketPath,
    config.rootDir,
    ...(config.clustersFile === undefined ? [] : [config.clustersFile]),
  ];
  return [
    "--no-prompt",
    `--allow-net${net}`,
    `--allow-read=${read.join(",")}`,
    `--allow-write=${[config.socketPath, config.rootDir].join(",")}`,
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
  const onNode = config.adapterName === "singularity";
  const addresses = (onNode ? [stream] : reachableAddresses(clusters)?.concat(stream))
    ?.map(addressText);
  // A unix socket needs the same path in net, read and write.
  const net = addresses === undefined ? "" : `=${
    [
      ...[config.socketPath, ...remoteSockets].map((path) => `unix:${path}`),
      ...new Set(addresses),
    ]
      .join(",")
  }`;
  const network = config.enablePodNetwork
    ? {
      read: [
        config.networkConfDir,
        config.networkBinDir,
        NETNS_DIRECTORY,
        LIBCNI_RESULTS_DIRECTORY,
      ],
      programs: NETWORK_PROGRAMS,
    }
    : { read: [], programs: [] };
  // Volumes that the kubelet writes for pods, which their jobs get copies of; termination messages are written there.
  const kubeletPods = `${config.kubeletRootDir}/pods`;
  const read = [
    ...paths,
    kubeletPods,
    ...network.read,
    SYSTEMD_SIGN,
    ...CERTIFICATE_DIRECTORIES,
    ...[config.clustersFile, config.registryCredentials].filter((path) => path !== undefined),
  ];
  return [
    "--no-prompt",
    `--allow-net${net}`,
    `--allow-read=${read.join(",")}`,
    `--allow-write=${[...paths, kubeletPods].join(",")}`,
    `--allow-run=${[...PROGRAMS, ...network.programs, ...(onNode ? NODE_PROGRAMS : [])].join(",")}`,
    ENVIRONMENT_FLAG,
    `--allow-sys=networkInterfaces${onNode ? ",hostname" : ""}`,
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
