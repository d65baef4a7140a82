/** The flags of the command line: names, defaults, and what --help says of them. */

import { IMAGES_USAGE } from "./images_command.ts";
import { JOBS_USAGE } from "./jobs_command.ts";
import { SITE_USAGE } from "./site_command.ts";

/** The values of --adapter-name. */
export const ADAPTERS = ["slurm", "singularity"] as const;

/** One flag. */
export interface Flag {
  name: string;
  /** Placeholder of the value in --help; undefined for a boolean. */
  value?: string;
  default: string;
  help: string;
  alias?: string;
}

/** All flags, in the order of --help. */
export const FLAGS: readonly Flag[] = [
  {
    name: "adapter-name",
    value: "name",
    default: "slurm",
    help: `Where containers run: ${ADAPTERS.join(", ")} (this node, as root).`,
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
    help: "Give each pod a network namespace, addresses and host ports by CNI.",
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
    name: "join-commands",
    default: "true",
    help: "Let '&&' and '||' that stand alone in a pod's command or args join commands.",
  },
  {
    name: "kubelet-root-dir",
    value: "dir",
    default: "/var/lib/kubelet",
    help: "The kubelet's own root; below its pods directory volumes are read and messages written.",
  },
  {
    name: "map-resources",
    default: "true",
    help: "Ask Slurm for the cores and memory of a container's Kubernetes resources.",
  },
  {
    name: "max-log-bytes",
    value: "bytes",
    default: "536870912",
    help:
      "A container's log file of this size takes no more output until it is rotated; 0: no bound.",
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
    name: "registry-credentials",
    value: "file",
    default: "",
    help: "The node's logins to registries (auth.json, mode 0600), for images that come without.",
  },
  {
    name: "remote-runtime-endpoints",
    value: "name:endpoint,…",
    default: "",
    help:
      "Other CRI runtimes by name (unix sockets). 'default' gets the pods without RuntimeClass.",
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
    name: "runtime-handlers",
    value: "handler=remote[/its-handler],…",
    default: "",
    help: "RuntimeClass handlers that remote runtimes know by names of their own.",
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
    help: "The port of the streaming server (0: any that is free).",
  },
  {
    name: "usage-interval",
    value: "seconds",
    default: "10",
    help: "How often jobs write down what they use, for statistics and metrics. 0: never.",
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
    ...IMAGES_USAGE.split("\n").map((line) => `       ${line}`),
    ...JOBS_USAGE.split("\n").map((line) => `       ${line}`),
    ...SITE_USAGE.split("\n").map((line) => `       ${line}`),
    "",
    ...lines,
    "",
    "Environment:",
    "  CRI_SLURM_MOUNT_PATH          Working directory on the cluster, relative to $HOME (default multi-cri)",
    "  CRI_SLURM_IMAGE_REMOTE_MOUNT  Directory of images on the cluster (default: .images in the working directory)",
    "  CRI_SLURM_SITE_IMAGES         Directory of the site's own images on the cluster, absolute (default: none)",
    "  CRI_SLURM_FOLLOW              files, or node: follow jobs by steps on their nodes (default: files)",
    "  CRI_SLURM_BUILD_IN_CLUSTER    Let the cluster pull images that need no credentials (true, job or false, the default)",
  ].join("\n");
}

/** A word about the flag that was probably meant; empty when none is like it. */
export function suggestion(name: string): string {
  const words = new Set(name.split("-"));
  const scored = FLAGS.map((flag) => ({
    name: flag.name,
    shared: flag.name.split("-").filter((word) => words.has(word)).length,
  }));
  const best = scored.reduce((a, b) => (b.shared > a.shared ? b : a));
  return best.shared > 0 ? ` (did you mean --${best.name}?)` : "";
}
