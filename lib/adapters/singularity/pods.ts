import { join } from "@std/path";
import { CriError } from "../../base/error.ts";
import { shown } from "../../base/shown.ts";
import {
  NamespaceMode,
  type NamespaceOption,
  type PodSandboxConfig,
} from "../../cri/api.generated.ts";
import { isNamespace } from "../../network/namespaces.ts";
import type { PodAdapter } from "../adapter.ts";
import nodeProgram from "../steps/node.pl" with { type: "text" };
import type { PodFiles } from "./bundle/mounts.ts";
import { checkNamespaceModes, type PodNamespaces } from "./bundle/namespaces.ts";
import { seccompChoice } from "./bundle/seccomp.ts";
import { userNamespaceOf } from "./bundle/user_namespace.ts";
import { checkHostPorts } from "./host_ports.ts";
import type { NetworkOf } from "./means.ts";
import type { Node } from "./node.ts";
import pause from "./pause.pl" with { type: "text" };
import { type Places, WORKLOAD_ID } from "./places.ts";
import { checkCgroupParent, type PodCgroups } from "./pod_cgroups.ts";
import { END_POD, FIND_PROCESSES, LOOK_AT_POD, MAKE_POD } from "./pod_scripts.ts";
import startPause from "./start_pause.pl" with { type: "text" };
import { checkSysctls, refusedSysctl } from "./sysctls.ts";

/**
 * What everybody may do in a network of the pod's own, as with other runtimes, so that nothing needs more rights for
 * it: listen at low ports, and ping (ip-sysctl.rst). The root of a user namespace has no others there. Nobody has asked
 * for it: a node that lies in a user namespace itself, whose kernel refuses groups without a mapping, does without.
 */
const OPEN_NETWORK: readonly string[] = [
  "-net.ipv4.ip_unprivileged_port_start=0",
  "-net.ipv4.ping_group_range=0 2147483647",
];
/** What the kernel keeps of a name (gethostname(2)). */
const MAX_HOSTNAME_BYTES = 64;
/** As other runtimes have it. */
const SHM_BYTES = 64 * 1024 * 1024;
/** What a pod's containers can write into its files in /etc beyond what these hold; else they could fill /run. */
const ETC_ROOM_BYTES = 1024 * 1024;

/** What is mounted in a pod's folder, if the pod has it. */
const MOUNTED: ReadonlySet<string> = new Set(["etc", "ipc", "pid", "shm", "sys", "uts"]);

/** Pods on this node: namespaces and files that their containers share. */
export class Pods implements PodAdapter {
  /** Those that this process has ended. */
  readonly #stopped = new Set<string>();

  constructor(
    private readonly node: Node,
    private readonly places: Places,
    private readonly networkOf: NetworkOf,
    private readonly nodeName: string,
    /** Absent where a manager of cgroups makes and removes them. */
    private readonly cgroups: PodCgroups | undefined,
  ) {}

  check(config: PodSandboxConfig, ownNetwork: boolean): void {
    const options = config.linux?.securityContext?.namespaceOptions;
    checkNamespaceModes(options);
    userNamespaceOf(options);
    checkOwnUser(config);
    // Of its own it has no program, yet its containers will say the same.
    seccompChoice(config.linux?.securityContext);
    const ownIpc = options?.ipc !== NamespaceMode.NODE;
    checkSysctls(config.linux?.sysctls ?? {}, { ipc: ownIpc, network: ownNetwork });
    checkHostname(hostnameToSet(config));
    checkCgroupParent(config.linux?.cgroupParent ?? "");
    checkHostPorts(config, ownNetwork);
    if (config.dnsConfig !== undefined) renderResolvConf(config.dnsConfig);
  }

  async run(id: string, config: PodSandboxConfig): Promise<void> {
    const options = config.linux?.securityContext?.namespaceOptions;
    const folder = this.places.pod(id);
    const network = this.networkOf(id, config) ?? "";
    const ownIpc = options?.ipc !== NamespaceMode.NODE;
    const ownUts = options?.network !== NamespaceMode.NODE;
    const sysctls = config.linux?.sysctls ?? {};
    const users = userNamespaceOf(options);
    const kinds = [
      ...(ownIpc ? ["ipc"] : []),
      ...(ownUts ? ["uts"] : []),
      ...(sharesProcesses(options) ? ["pid"] : []),
    ];
    await Deno.mkdir(folder, { recursive: true });
    await Deno.chmod(folder, 0o711);
    await this.cgroups?.claim(id, config.linux?.cgroupParent ?? "");
    const files = await this.#etcFiles(config);
    const etcBytes = Object.values(files).reduce((sum, text) => sum + text.length, 0);
    const refused = await this.node.script(`make the pod ${config.metadata?.name}`, MAKE_POD, [
      folder,
      hostnameToSet(config),
      network,
      kinds.join(" "),
      ownIpc ? String(SHM_BYTES) : "",
      nodeProgram + pause,
      nodeProgram + startPause,
      String(etcBytes + ETC_ROOM_BYTES),
      hasOwnSys(config) ? "sys" : "",
      ...(network === "" ? [] : OPEN_NETWORK),
      ...Object.entries(sysctls).map(([name, value]) => `${name}=${value}`),
    ]);
    if (refused !== "") throw refusedSysctl(refused, sysctls);
    for (const [file, text] of Object.entries(files)) {
      const path = join(folder, "etc", file);
      await Deno.writeTextFile(path, text);
      await Deno.chmod(path, 0o644);
      if (users !== undefined) await Deno.chown(path, users.uids.hostID, users.gids.hostID);
    }
  }

  async stop(id: string): Promise<void> {
    if (this.#stopped.has(id)) return;
    await this.node.script("end a pod", END_POD, [this.places.pod(id)]);
    this.#stopped.add(id);
  }

  async remove(id: string): Promise<void> {
    await this.stop(id);
    await this.cgroups?.release(id);
    await Deno.remove(this.places.pod(id), { recursive: true }).catch((error) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    });
    this.#stopped.delete(id);
  }

  /**
   * Whether a pod still has what its containers share, which goes with a reboot, or with its first process, or when
   * somebody removes its network.
   */
  async isWhole(id: string, config: PodSandboxConfig): Promise<boolean> {
    const folder = this.places.pod(id);
    try {
      if (!await this.#hasNetwork(id, config)) return false;
      const { dev } = await Deno.lstat(folder);
      const names = (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name);
      // Every pod has it.
      if (!names.includes("etc")) return false;
      for (const name of names.filter((name) => MOUNTED.has(name))) {
        if ((await Deno.lstat(join(folder, name))).dev === dev) return false;
      }
      return await this.node.script("look at a pod", LOOK_AT_POD, [folder]) === "";
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return false;
      throw error;
    }
  }

  /** Whether a pod's network is there, if it has one of its own that this server cares for. */
  async #hasNetwork(id: string, config: PodSandboxConfig): Promise<boolean> {
    try {
      const network = this.networkOf(id, config);
      return network === undefined || await isNamespace(network);
    } catch (error) {
      // Of a pod of a server with other flags nothing is known.
      if (error instanceof CriError && error.code === "FAILED_PRECONDITION") return true;
      if (error instanceof CriError && error.code === "UNAVAILABLE") return false;
      throw error;
    }
  }

  /** Removes pods that are left without a record, also those of which but a process is left. */
  async removeUnknown(known: ReadonlySet<string>): Promise<void> {
    const { pods } = this.places.folders;
    const folders = (await Array.fromAsync(Deno.readDir(pods))).map(({ name }) => name);
    const words = (await this.node.script("look for pods' processes", FIND_PROCESSES, [pods]))
      .split("\n");
    const [before, behind] = [`--pid=${pods}/`, "/pid"];
    const processes = words.filter((word) => word.startsWith(before) && word.endsWith(behind))
      .map((word) => word.slice(before.length, -behind.length)).filter((id) =>
        WORKLOAD_ID.test(id)
      );
    for (const id of new Set([...folders, ...processes])) {
      if (!known.has(id)) await this.remove(id);
    }
  }

  /** @throws CriError UNAVAILABLE for a pod without the network that it must have. */
  namespaces(id: string, config: PodSandboxConfig): PodNamespaces {
    const options = config.linux?.securityContext?.namespaceOptions;
    const folder = this.places.pod(id);
    const network = this.networkOf(id, config);
    return {
      ...(network === undefined ? {} : { network }),
      ...(options?.ipc === NamespaceMode.NODE ? {} : { ipc: join(folder, "ipc") }),
      ...(options?.network === NamespaceMode.NODE ? {} : { uts: join(folder, "uts") }),
      ...(sharesProcesses(options) ? { pid: join(folder, "pid") } : {}),
    };
  }

  files(id: string, config: PodSandboxConfig): PodFiles {
    const folder = this.places.pod(id);
    const ownIpc = config.linux?.securityContext?.namespaceOptions?.ipc !== NamespaceMode.NODE;
    return {
      hosts: join(folder, "etc/hosts"),
      hostname: join(folder, "etc/hostname"),
      resolvConf: join(folder, "etc/resolv.conf"),
      ...(ownIpc ? { shm: join(folder, "shm") } : {}),
      ...(hasOwnSys(config) ? { sys: join(folder, "sys") } : {}),
    };
  }

  /** The texts that containers find in /etc, by names; those of a pod without settings of its own are the node's. */
  async #etcFiles(config: PodSandboxConfig): Promise<Record<string, string>> {
    const { hostname, dnsConfig } = config;
    const nodeFile = (path: string) =>
      this.node.script("read the node's files", 'cat -- "$1" 2>/dev/null || true', [path]);
    const name = this.hostnameOf(config);
    const resolvConf = dnsConfig === undefined
      ? await nodeFile("/etc/resolv.conf")
      : renderResolvConf(dnsConfig);
    const hosts = await nodeFile("/etc/hosts");
    return { hosts, hostname: `${name || hostname}\n`, "resolv.conf": resolvConf };
  }

  /** The name that the pod's containers see. */
  hostnameOf(config: PodSandboxConfig): string {
    return hostnameToSet(config) || this.nodeName;
  }
}

/** Empty for a pod that keeps the node's. */
function hostnameToSet({ hostname, linux }: PodSandboxConfig): string {
  const onNode = linux?.securityContext?.namespaceOptions?.network === NamespaceMode.NODE;
  return onNode ? "" : hostname;
}

/**
 * Nothing of a pod runs as the user that it names for itself.
 * @throws CriError INVALID_ARGUMENT for a group without a user (api.proto, LinuxSandboxSecurityContext).
 */
function checkOwnUser({ linux }: PodSandboxConfig): void {
  const { runAsUser, runAsGroup } = linux?.securityContext ?? {};
  if (runAsGroup === undefined || runAsUser !== undefined) return;
  throw new CriError(
    "INVALID_ARGUMENT",
    "Cannot run the pod with run_as_group alone: run_as_user must be set with it.",
  );
}

/** @throws CriError INVALID_ARGUMENT for a name that no machine can have. */
function checkHostname(hostname: string): void {
  if (/^[\w.-]*$/.test(hostname) && hostname.length <= MAX_HOSTNAME_BYTES) return;
  throw new CriError(
    "INVALID_ARGUMENT",
    `Cannot give the pod the host name ${
      shown(hostname)
    }: it must be of letters, digits, dots and hyphens, at most ${MAX_HOSTNAME_BYTES} of them.`,
  );
}

/** Whether the pod's containers share their processes, which is CRI's default (api.proto); a kubelet always says. */
function sharesProcesses(options: NamespaceOption | undefined): boolean {
  return (options?.pid ?? NamespaceMode.POD) === NamespaceMode.POD;
}

/**
 * Whether /sys is mounted for the pod: the root of a user namespace cannot, in a network that is not of that namespace,
 * and would be given the node's, with all that is mounted in it.
 */
function hasOwnSys({ linux }: PodSandboxConfig): boolean {
  return userNamespaceOf(linux?.securityContext?.namespaceOptions) !== undefined;
}

/** resolv.conf(5). @throws CriError INVALID_ARGUMENT for a word with a line break. */
function renderResolvConf(
  { servers, searches, options }: NonNullable<PodSandboxConfig["dnsConfig"]>,
): string {
  if ([...servers, ...searches, ...options].some((word) => /[\s\p{Cc}]/u.test(word))) {
    throw new CriError(
      "INVALID_ARGUMENT",
      "Cannot set the pod's DNS: servers, searches and options must not hold blanks, line breaks or other control " +
        "characters.",
    );
  }
  return [
    ...(searches.length > 0 ? [`search ${searches.join(" ")}`] : []),
    ...servers.map((server) => `nameserver ${server}`),
    ...(options.length > 0 ? [`options ${options.join(" ")}`] : []),
  ].map((line) => `${line}\n`).join("");
}
