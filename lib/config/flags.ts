import { parseArgs } from "@std/cli/parse-args";
import { isAbsolute, normalize } from "@std/path";
import { type Severity } from "../base/log.ts";

/** Where the workloads of our own pods run. */
export const ADAPTERS = ["slurm"] as const;
export type AdapterName = (typeof ADAPTERS)[number];

/** A host and port that pods may name as their cluster. */
export interface ClusterAddress {
  host: string;
  port: number;
}

/** Everything the command line and the environment decide. Paths are absolute and normalised. */
export interface Config {
  adapterName: AdapterName;
  allowedClusters: readonly ClusterAddress[];
  /** A file of logins that the node keeps; see `readClusters`. */
  clustersFile: string | undefined;
  enablePodPersistence: boolean;
  jobLogLines: boolean;
  kubeletRootDir: string;
  /** Whether Kubernetes resources become sbatch options where the job's own settings say nothing. */
  mapResources: boolean;
  /** The address reported for pods; undefined: found out at the start. */
  nodeIp: string | undefined;
  podLogsDir: string;
  resourcesCachePath: string;
  rootDir: string;
  sandboxImage: string;
  socketPath: string;
  stateDir: string;
  logThreshold: Severity;
  streamAddr: string;
  streamPort: number;
  slurm: SlurmSettings;
}

/** The `CRI_SLURM_*` environment variables. */
export interface SlurmSettings {
  /** Working directory on the cluster, relative to $HOME. */
  mountPath: string;
  /** Directory of images on the cluster: absolute, or relative to $HOME; undefined: inside `mountPath`. */
  imageRemoteMount: string | undefined;
}

/** What the command line asked for. */
export type Invocation =
  | { kind: "help"; text: string }
  | { kind: "version" }
  | { kind: "serve"; config: Config };

/** A command line or environment that cannot be used; the message is for the person who typed it. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

interface Flag {
  name: string;
  /** Placeholder of the value in --help; undefined for a boolean. */
  value?: string;
  default: string;
  help: string;
  alias?: string;
}

/** Where sshd listens unless told otherwise. */
export const SSH_PORT = 22;

const FLAGS: readonly Flag[] = [
  {
    name: "adapter-name",
    value: "name",
    default: "slurm",
    help: `Where containers run: ${ADAPTERS.join(", ")}.`,
  },
  {
    name: "allowed-clusters",
    value: "host[:port],…",
    default: "",
    help: "Login hosts that pods may name in CLUSTER_HOST. Empty: any host.",
  },
  {
    name: "clusters-file",
    value: "file",
    default: "",
    help: "Logins of clusters by name (YAML, mode 0600), for pods that bring none.",
  },
  {
    name: "enable-pod-network",
    default: "false",
    help: "Give each pod a network namespace by CNI. Not available yet.",
  },
  {
    name: "enable-pod-persistence",
    default: "false",
    help: "Keep the records of pods and containers in --root-dir, so that they survive a reboot.",
  },
  {
    name: "job-log-lines",
    default: "true",
    help: "Write lines of our own (job id, why it waits) into container logs, as 'multicri: …'.",
  },
  {
    name: "kubelet-root-dir",
    value: "dir",
    default: "/var/lib/kubelet",
    help: "The kubelet's own root, from which volumes are read.",
  },
  {
    name: "map-resources",
    default: "true",
    help: "Ask Slurm for the cores and memory of a container's Kubernetes resources.",
  },
  {
    name: "network-bin-dir",
    value: "dir",
    default: "/opt/cni/bin",
    help: "The directory of CNI plugins.",
  },
  {
    name: "network-conf-dir",
    value: "dir",
    default: "/etc/cni/net.d",
    help: "The directory of CNI configuration files.",
  },
  {
    name: "node-ip",
    value: "address",
    default: "",
    help: "The address reported for pods. Empty: the node's first address that is not loopback.",
  },
  {
    name: "pod-logs-dir",
    value: "dir",
    default: "/var/log/pods",
    help: "The directory below which every pod's log_directory lies.",
  },
  {
    name: "remote-runtime-endpoints",
    value: "name:endpoint,…",
    default: "",
    help: "Other CRI runtimes by name. Empty: every pod is ours. Not available yet.",
  },
  {
    name: "resources-cache-path",
    value: "dir",
    default: "/root/.multi-cri/",
    help: "The image pool.",
  },
  {
    name: "root-dir",
    value: "dir",
    default: "/var/lib/multi-cri",
    help: "Files that survive a reboot: pinned host keys, records with --enable-pod-persistence.",
  },
  {
    name: "sandbox-image",
    value: "image",
    default: "registry.k8s.io/pause:3.10",
    help: "The image of the sandbox container, for adapters that need one (slurm does not).",
  },
  {
    name: "socket-path",
    value: "path",
    default: "/var/run/multicri.sock",
    help: "The unix socket to serve the CRI on (mode 0600).",
  },
  {
    name: "state-dir",
    value: "dir",
    default: "/run/multi-cri",
    help: "Records and secrets that a reboot may lose. Must not be shared by two servers.",
  },
  {
    name: "stderrthreshold",
    value: "severity",
    default: "2",
    help: "Log lines at or above this severity go to stderr: 0 info, 1 warning, 2 error.",
  },
  {
    name: "stream-addr",
    value: "address",
    default: "",
    help: "The address of the streaming server. Empty: loopback, since only the kubelet calls it.",
  },
  {
    name: "stream-port",
    value: "port",
    default: "10010",
    help: "The port of the streaming server.",
  },
  {
    name: "v",
    value: "level",
    default: "0",
    help:
      "Verbosity: 1 to 3 also logs info, 4 and more also debug, whatever --stderrthreshold says.",
  },
  { name: "help", alias: "h", default: "false", help: "Show this help." },
  { name: "version", default: "false", help: "Show the versions of multicri and Deno." },
];

/**
 * Parses the command line (without the program's name) and the environment.
 * @throws UsageError with one sentence for an unknown flag, a bad value or a stray argument.
 */
export function parseInvocation(
  args: readonly string[],
  env: (name: string) => string | undefined,
): Invocation {
  const values = readFlags(args);
  if (values("help") === "true") return { kind: "help", text: helpText() };
  if (values("version") === "true") return { kind: "version" };

  if (values("enable-pod-network") === "true") {
    throw new UsageError(
      "--enable-pod-network is not available yet: leave it out, pods then use the node's network.",
    );
  }
  if (values("remote-runtime-endpoints") !== "") {
    throw new UsageError(
      "--remote-runtime-endpoints is not available yet: leave it empty, every pod is then run by " +
        "multicri itself.",
    );
  }
  absolutePath(values, "network-bin-dir");
  absolutePath(values, "network-conf-dir");
  return {
    kind: "serve",
    config: {
      adapterName: oneOf("adapter-name", values("adapter-name"), ADAPTERS),
      allowedClusters: clusterAddresses(values("allowed-clusters")),
      clustersFile: values("clusters-file") === ""
        ? undefined
        : absolutePath(values, "clusters-file"),
      enablePodPersistence: values("enable-pod-persistence") === "true",
      jobLogLines: values("job-log-lines") === "true",
      mapResources: values("map-resources") === "true",
      kubeletRootDir: absolutePath(values, "kubelet-root-dir"),
      nodeIp: values("node-ip") || undefined,
      podLogsDir: absolutePath(values, "pod-logs-dir"),
      resourcesCachePath: poolPath(values),
      rootDir: absolutePath(values, "root-dir"),
      sandboxImage: values("sandbox-image"),
      socketPath: absolutePath(values, "socket-path"),
      stateDir: absolutePath(values, "state-dir"),
      logThreshold: logThreshold(values("stderrthreshold"), values("v")),
      streamAddr: values("stream-addr") || "127.0.0.1",
      streamPort: port("--stream-port", values("stream-port")),
      slurm: slurmSettings(env),
    },
  };
}

/** The text of --help. */
export function helpText(): string {
  const heads = FLAGS.map((flag) => {
    const short = flag.alias ? `-${flag.alias}, ` : "";
    const dashes = flag.name.length === 1 ? "-" : "--";
    return `  ${short}${dashes}${flag.name}${flag.value ? ` ${flag.value}` : ""}`;
  });
  const width = Math.max(...heads.map((head) => head.length)) + 2;
  const lines = FLAGS.map((flag, index) => {
    const shown = flag.default !== "" && flag.default !== "false"
      ? ` (default ${flag.default})`
      : "";
    return `${(heads[index] ?? "").padEnd(width)}${flag.help}${shown}`;
  });
  return [
    "multicri: a Kubernetes container runtime (CRI v1) that runs pods as Slurm jobs in Apptainer.",
    "",
    "Usage: multicri [flags]",
    "",
    ...lines,
    "",
    "Environment:",
    "  CRI_SLURM_MOUNT_PATH          Working directory on the cluster, relative to $HOME (default multi-cri)",
    "  CRI_SLURM_IMAGE_REMOTE_MOUNT  Directory of images on the cluster (default: .images in the working directory)",
    "  CRI_SLURM_BUILD_IN_CLUSTER    Build images on the cluster. Not available yet.",
  ].join("\n");
}

/** Returns a look-up of each flag's raw value, its default where it was not given. */
function readFlags(args: readonly string[]): (name: string) => string {
  const known = new Map(FLAGS.map((flag) => [flag.name, flag]));
  const booleans = FLAGS.filter((flag) => flag.value === undefined).map((flag) => flag.name);
  // Each flag with its value in one word, so that the value may be empty or begin with a dash.
  const words: string[] = [];
  for (let index = 0; index < args.length; index++) {
    const arg = args[index] ?? "";
    const name = /^--?([^=]+)/s.exec(arg)?.[1] ?? "";
    if (booleans.includes(name) && arg.includes("=")) {
      const value = arg.slice(arg.indexOf("=") + 1);
      if (value !== "true" && value !== "false") {
        throw badValue(`--${name}`, value, "true or false");
      }
    }
    const placeholder = arg.includes("=") ? undefined : known.get(name)?.value;
    if (placeholder === undefined) {
      words.push(arg);
      continue;
    }
    const value = args[++index];
    if (value === undefined || /^--\w/.test(value)) {
      throw new UsageError(`--${name} needs a value (${placeholder}).`);
    }
    words.push(`--${name}=${value}`);
  }
  const parsed: Record<string, unknown> = parseArgs(words, {
    string: FLAGS.filter((flag) => flag.value !== undefined).map((flag) => flag.name),
    boolean: booleans,
    alias: Object.fromEntries(
      FLAGS.filter((flag) => flag.alias).map((flag) => [flag.alias ?? "", flag.name]),
    ),
    unknown: (arg: string, key?: string) => {
      if (key === undefined) {
        throw strayArgument(arg);
      }
      throw new UsageError(`Unknown flag '${arg}'${suggestion(key)}; --help lists the flags.`);
    },
  });
  const [stray] = parsed["_"] as unknown[];
  if (stray !== undefined) throw strayArgument(String(stray));
  return (name) => {
    const value = parsed[name];
    const given = words.some((arg) => new RegExp(`^--?(no-)?${name}(=|$)`, "s").test(arg));
    if (given || value === true) return String(Array.isArray(value) ? value.at(-1) : value);
    return known.get(name)?.default ?? "";
  };
}

function strayArgument(arg: string): UsageError {
  return new UsageError(`Cannot use the argument '${arg}': multicri takes flags only, see --help.`);
}

function suggestion(name: string): string {
  const words = new Set(name.split("-"));
  const scored = FLAGS.map((flag) => ({
    name: flag.name,
    shared: flag.name.split("-").filter((word) => words.has(word)).length,
  }));
  const best = scored.reduce((a, b) => (b.shared > a.shared ? b : a));
  return best.shared > 0 ? ` (did you mean --${best.name}?)` : "";
}

function badValue(what: string, value: string, expected: string): UsageError {
  return new UsageError(`Cannot use ${what} '${value}': it must be ${expected}.`);
}

function oneOf<const T extends string>(name: string, value: string, allowed: readonly T[]): T {
  const found = allowed.find((entry) => entry === value);
  if (found === undefined) throw badValue(`--${name}`, value, allowed.join(" or "));
  return found;
}

function absolutePath(values: (name: string) => string, name: string): string {
  const value = values(name);
  // A comma would split Deno's permission lists, a control character would forge log lines.
  // deno-lint-ignore no-control-regex
  if (!isAbsolute(value) || /[\x00-\x1f\x7f,]/.test(value)) {
    throw badValue(`--${name}`, value, "an absolute path without commas or control characters");
  }
  const path: string = normalize(value);
  return path.length > 1 ? path.replace(/\/$/, "") : path;
}

/** skopeo and apptainer read what follows a colon in `oci:PATH` as a tag. */
function poolPath(values: (name: string) => string): string {
  const path = absolutePath(values, "resources-cache-path");
  if (path.includes(":")) throw badValue("--resources-cache-path", path, "a path without colons");
  return path;
}

function port(what: string, value: string): number {
  const number = Number(value);
  if (!/^\d{1,5}$/.test(value) || number < 1 || number > 65535) {
    throw badValue(what, value, "a port number from 1 to 65535");
  }
  return number;
}

function clusterAddresses(list: string): ClusterAddress[] {
  if (list === "") return [];
  return list.split(",").map((entry) => {
    const match = /^(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::(.*))?$/s.exec(entry.trim());
    if (!match || match[2]?.includes(":")) {
      throw badValue(
        "--allowed-clusters entry",
        entry,
        "host or host:port, with an IPv6 address in brackets as [fd00::1]:22",
      );
    }
    const host = (match[1] ?? "").replace(/^\[|\]$/g, "");
    return {
      host,
      port: match[2] === undefined ? SSH_PORT : port("--allowed-clusters port", match[2]),
    };
  });
}

/** glog's numbers, because the seed's users have them in their unit files. */
function logThreshold(threshold: string, verbosity: string): Severity {
  const level = Number(verbosity);
  if (!/^\d{1,2}$/.test(verbosity)) throw badValue("-v", verbosity, "a number from 0 to 10");
  const severities: Record<string, Severity> = {
    "0": "info",
    info: "info",
    "1": "warning",
    warning: "warning",
    "2": "error",
    error: "error",
    "3": "error",
    fatal: "error",
  };
  const severity = severities[threshold.toLowerCase()];
  if (severity === undefined) {
    throw badValue("--stderrthreshold", threshold, "0 (info), 1 (warning) or 2 (error)");
  }
  if (level >= 4) return "debug";
  return level >= 1 ? "info" : severity;
}

function slurmSettings(env: (name: string) => string | undefined): SlurmSettings {
  const build = env("CRI_SLURM_BUILD_IN_CLUSTER") || "false";
  if (!/^(true|false|1|0)$/i.test(build)) {
    throw badValue("CRI_SLURM_BUILD_IN_CLUSTER", build, "true or false");
  }
  if (/^(true|1)$/i.test(build)) {
    throw new UsageError(
      "CRI_SLURM_BUILD_IN_CLUSTER=true is not available yet: unset it, images are then built on " +
        "this node and uploaded.",
    );
  }
  const mountPath = env("CRI_SLURM_MOUNT_PATH") || "multi-cri";
  const imageMount = env("CRI_SLURM_IMAGE_REMOTE_MOUNT") || undefined;
  const safe = (path: string) =>
    // deno-lint-ignore no-control-regex
    !/[\x00-\x1f\x7f:,\\]/.test(path) && path.split("/").every((part) => part !== "..");
  if (!safe(mountPath) || isAbsolute(mountPath)) {
    throw badValue(
      "CRI_SLURM_MOUNT_PATH",
      mountPath,
      "a path relative to $HOME without '..', ':', ',' and '\\'",
    );
  }
  if (imageMount !== undefined && !safe(imageMount)) {
    throw badValue(
      "CRI_SLURM_IMAGE_REMOTE_MOUNT",
      imageMount,
      "a path without '..', ':', ',' and '\\'",
    );
  }
  return { mountPath: mountPath.replace(/\/+$/, ""), imageRemoteMount: imageMount };
}
