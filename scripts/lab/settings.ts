import { dirname, fromFileUrl } from "@std/path";

/** The hosts of a lab. `registry` is also the switch that joins them. */
export const HOST_NAMES = ["registry", "ctl", "n1", "n2", "knode"] as const;
export type HostName = (typeof HOST_NAMES)[number];

/** The last number of each host's address; `machine` is the machine that the lab runs on. */
const LAST_OCTETS: Record<HostName | "machine", number> = {
  registry: 1,
  ctl: 10,
  n1: 11,
  n2: 12,
  knode: 100,
  machine: 254,
};

/** Where the Kubernetes node finds what is bound into it from the machine. */
export const KNODE_PATHS = {
  /** The checkout, read-only. */
  checkout: "/opt/multicri",
  /** The folder of the deno binary that runs the lab, read-only. */
  denoFolder: "/opt/deno",
  /** That deno's cache (DENO_DIR), writable, so that nothing is downloaded or compiled twice. */
  denoDir: "/opt/deno-dir",
  /** Clients built by scripts/clients.ts, read-only. */
  clients: "/opt/clients",
} as const;

/** What tells one lab from another, and where it keeps its things. */
export interface LabSettings {
  /** One to eight lower-case letters and digits; two labs on one machine need two names and two subnets. */
  name: string;
  /** The first three numbers of the lab's /24, as in `10.77.0`. */
  subnet: string;
  /** Holds the Debian root, built clients and all labs' folders. */
  cache: string;
  /** Clients built by scripts/clients.ts. */
  clients: string;
  /** This lab's own folder: host roots, logs, keys. */
  folder: string;
  /** The network interface through which the machine itself reaches the hosts. */
  machineInterface: string;
  /** The checkout this module belongs to. */
  checkout: string;
  /** Which Slurm the cluster has: Debian sid's, or Debian 12's 22.05. */
  cluster: "new" | "old";
}

/** What a caller may choose; the rest comes from the environment or the defaults. */
export interface LabOptions {
  name?: string;
  subnet?: string;
  cache?: string;
  cluster?: LabSettings["cluster"];
}

/**
 * Settles a lab's settings from `options`, else MULTICRI_LAB_NAME, MULTICRI_LAB_SUBNET,
 * MULTICRI_LAB_CLUSTER and XDG_CACHE_HOME, else the defaults `lab`, `10.77.0`, `new` and ~/.cache.
 *
 * @throws {Error} when the name or the subnet cannot be used.
 */
export function labSettings(
  options: LabOptions = {},
  env: (name: string) => string | undefined = Deno.env.get,
): LabSettings {
  const name = options.name ?? env("MULTICRI_LAB_NAME") ?? "lab";
  if (!/^[a-z][a-z0-9]{0,7}$/.test(name)) {
    throw new Error(
      `Cannot name a lab so, as its name must be 1 to 8 lower-case letters and digits: it is "${name}".`,
    );
  }
  const subnet = options.subnet ?? env("MULTICRI_LAB_SUBNET") ?? "10.77.0";
  const octets = subnet.split(".");
  if (octets.length !== 3 || !octets.every((o) => /^\d{1,3}$/.test(o) && Number(o) < 256)) {
    throw new Error(
      `Cannot use the lab's subnet, as it must be the first three numbers of a /24 such as 10.77.0: it is "${subnet}".`,
    );
  }
  const cluster = options.cluster ?? env("MULTICRI_LAB_CLUSTER") ?? "new";
  if (cluster !== "new" && cluster !== "old") {
    throw new Error(`Cannot make the lab's cluster, as it must be new or old: it is "${cluster}".`);
  }
  const cache = options.cache ?? defaultCache(env);
  return {
    cluster,
    name,
    subnet,
    cache,
    clients: `${cache}/clients`,
    folder: `${cache}/labs/${name}`,
    machineInterface: `mc-${name}`,
    checkout: dirname(dirname(dirname(fromFileUrl(import.meta.url)))),
  };
}

/** The folder that outlives checkouts: `$XDG_CACHE_HOME/multicri`, else `~/.cache/multicri`. */
export function defaultCache(
  env: (name: string) => string | undefined = Deno.env.get,
): string {
  return `${env("XDG_CACHE_HOME") || `${env("HOME") ?? "/root"}/.cache`}/multicri`;
}

/** The IPv4 address of a host, or of the machine as the hosts see it. */
export function addressOf(settings: LabSettings, host: HostName | "machine"): string {
  return `${settings.subnet}.${LAST_OCTETS[host]}`;
}

/** Where `up` leaves the login user's private key. */
export function loginKeyPath(settings: LabSettings): string {
  return `${settings.folder}/login-key`;
}

/** The folder that the cluster's hosts share as /home. */
export function clusterHome(settings: LabSettings): string {
  return `${settings.folder}/home`;
}

/** The name of the registry's host in the lab; on port 80, so that image names need no port. */
export const REGISTRY_NAME = "registry.lab";

/** hosts(5) for every host of the lab. */
export function hostsFile(settings: LabSettings): string {
  const lines = HOST_NAMES.map((host) =>
    `${addressOf(settings, host)} ${host}${host === "registry" ? ` ${REGISTRY_NAME}` : ""}\n`
  );
  return `127.0.0.1 localhost\n${lines.join("")}${addressOf(settings, "machine")} machine\n`;
}
