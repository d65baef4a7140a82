import { isIP } from "node:net";
import { isAbsolute, normalize } from "@std/path";
import { messageOf } from "../base/error.ts";
import { type Severity } from "../base/log.ts";
import { ADAPTERS, helpText } from "./flag_table.ts";
import { readFlags } from "./flag_values.ts";
import { type ImagesCommand, parseImagesCommand } from "./images_command.ts";
import { type JobsCommand, parseJobsCommand } from "./jobs_command.ts";
import { parseSiteCommand, type SiteCommand } from "./site_command.ts";
import {
  type HandlerMapping,
  parseHandlers,
  parseRemotes,
  type RemoteEndpoint,
} from "./remotes.ts";
import { type SlurmSettings, slurmSettings } from "./slurm_settings.ts";
import { badValue, UsageError } from "./usage_error.ts";

/** Where the workloads of our own pods run. */
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
  /** Whether pods get networks of their own, by CNI. */
  enablePodNetwork: boolean;
  enablePodPersistence: boolean;
  jobLogLines: boolean;
  /** Whether `&&` and `||` that stand alone in a pod's command join commands. */
  joinCommands: boolean;
  kubeletRootDir: string;
  /** Whether Kubernetes resources become sbatch options where the job's own settings say nothing. */
  mapResources: boolean;
  /** A container's log file takes no more output when it has reached this size, until it is rotated. */
  maxLogBytes: number;
  networkBinDir: string;
  networkConfDir: string;
  /** The address reported for pods; undefined: found out at the start. */
  nodeIp: string | undefined;
  podLogsDir: string;
  /** containers-auth.json(5) of the node, which is docker's config.json too; undefined: none. */
  registryCredentials: string | undefined;
  /** Other CRI runtimes; pods choose among them by RuntimeClass. */
  remotes: readonly RemoteEndpoint[];
  resourcesCachePath: string;
  rootDir: string;
  runtimeHandlers: readonly HandlerMapping[];
  sandboxImage: string;
  socketPath: string;
  stateDir: string;
  logThreshold: Severity;
  streamAddr: string;
  streamPort: number;
  /** How often jobs tell what they use; 0: never. */
  usageIntervalSeconds: number;
  slurm: SlurmSettings;
}

/** What the command line asked for. */
export type Invocation =
  | { kind: "help"; text: string }
  | { kind: "version" }
  | { kind: "serve"; config: Config }
  | { kind: "images"; config: Config; command: ImagesCommand }
  | { kind: "jobs"; config: Config; command: JobsCommand }
  | { kind: "site"; config: Config; command: SiteCommand };

/** Where sshd listens unless told otherwise. */
export const SSH_PORT = 22;

/** Rarer figures would say nothing of a container's use now. */
const MAX_USAGE_INTERVAL_SECONDS = 3600;

/**
 * Parses the command line (without the program's name) and the environment.
 * @throws UsageError with one sentence for an unknown flag, a bad value or a stray argument.
 */
export function parseInvocation(
  args: readonly string[],
  env: (name: string) => string | undefined,
): Invocation {
  const [command] = args;
  const isCommand = command === "images" || command === "jobs" || command === "site";
  const firstFlag = args.findIndex((arg) => arg.startsWith("-"));
  const words = isCommand ? args.slice(1, firstFlag === -1 ? undefined : firstFlag) : [];
  const values = readFlags(isCommand ? args.slice(1 + words.length) : args);
  if (values("help") === "true") return { kind: "help", text: helpText() };
  if (values("version") === "true") return { kind: "version" };

  const config = readConfig(values, env);
  if (command === "images") {
    return { kind: command, config, command: parseImagesCommand(words) };
  }
  if (command === "site") {
    return { kind: command, config, command: parsed(() => parseSiteCommand(words)) };
  }
  return command === "jobs"
    ? { kind: command, config, command: parseJobsCommand(words) }
    : { kind: "serve", config };
}

function readConfig(
  values: (name: string) => string,
  env: (name: string) => string | undefined,
): Config {
  const socketPath = absolutePath(values, "socket-path");
  const remotes = parsed(() => parseRemotes(values("remote-runtime-endpoints"), socketPath));
  return {
    adapterName: oneOf("adapter-name", values("adapter-name"), ADAPTERS),
    allowedClusters: clusterAddresses(values("allowed-clusters")),
    clustersFile: optionalPath(values, "clusters-file"),
    enablePodNetwork: values("enable-pod-network") === "true",
    enablePodPersistence: values("enable-pod-persistence") === "true",
    jobLogLines: values("job-log-lines") === "true",
    joinCommands: values("join-commands") === "true",
    mapResources: values("map-resources") === "true",
    kubeletRootDir: absolutePath(values, "kubelet-root-dir"),
    maxLogBytes: maxLogBytes(values("max-log-bytes")),
    networkBinDir: pathWithoutColons(values, "network-bin-dir"),
    networkConfDir: absolutePath(values, "network-conf-dir"),
    nodeIp: values("node-ip") === "" ? undefined : ownAddress("--node-ip", values("node-ip")),
    podLogsDir: absolutePath(values, "pod-logs-dir"),
    registryCredentials: optionalPath(values, "registry-credentials"),
    remotes,
    resourcesCachePath: pathWithoutColons(values, "resources-cache-path"),
    rootDir: absolutePath(values, "root-dir"),
    runtimeHandlers: parsed(() => parseHandlers(values("runtime-handlers"), remotes)),
    sandboxImage: values("sandbox-image"),
    socketPath,
    stateDir: absolutePath(values, "state-dir"),
    logThreshold: logThreshold(values("stderrthreshold"), values("v")),
    streamAddr: ownAddress("--stream-addr", values("stream-addr") || "127.0.0.1"),
    streamPort: port("--stream-port", values("stream-port"), 0),
    usageIntervalSeconds: usageInterval(values("usage-interval")),
    slurm: slurmSettings(env),
  };
}

function oneOf<const T extends string>(name: string, value: string, allowed: readonly T[]): T {
  const found = allowed.find((entry) => entry === value);
  if (found === undefined) throw badValue(`--${name}`, value, allowed.join(" or "));
  return found;
}

/** What `parse` gives. @throws UsageError in its words. */
function parsed<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw new UsageError(messageOf(error));
  }
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

function optionalPath(values: (name: string) => string, name: string): string | undefined {
  return values(name) === "" ? undefined : absolutePath(values, name);
}

/** skopeo and apptainer read what follows a colon in `oci:PATH` as a tag; CNI_PATH is a list parted by colons. */
function pathWithoutColons(values: (name: string) => string, name: string): string {
  const path = absolutePath(values, name);
  if (path.includes(":")) throw badValue(`--${name}`, path, "a path without colons");
  return path;
}

function port(what: string, value: string, lowest = 1): number {
  const number = Number(value);
  if (!/^\d{1,5}$/.test(value) || number < lowest || number > 65535) {
    throw badValue(what, value, `a port number from ${lowest} to 65535`);
  }
  return number;
}

function maxLogBytes(value: string): number {
  if (/^\d{1,15}$/.test(value)) return Number(value) === 0 ? Infinity : Number(value);
  throw badValue("--max-log-bytes", value, "a number of bytes, or 0 for no bound");
}

function usageInterval(value: string): number {
  if (/^\d{1,4}$/.test(value) && Number(value) <= MAX_USAGE_INTERVAL_SECONDS) return Number(value);
  throw badValue(
    "--usage-interval",
    value,
    `a number of seconds from 0 (off) to ${MAX_USAGE_INTERVAL_SECONDS}`,
  );
}

/** An address, not a name, because it must be known before anything may be looked up. */
function ownAddress(what: string, value: string): string {
  if (isIP(value) === 0) throw badValue(what, value, "an IP address of this machine");
  return value;
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
