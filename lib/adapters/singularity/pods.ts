import { join } from "@std/path";
import { CriError } from "../../base/error.ts";
import { shown } from "../../base/shown.ts";
import {
  NamespaceMode,
  type NamespaceOption,
  type PodSandboxConfig,
} from "../../cri/api.generated.ts";
import type { PodAdapter } from "../adapter.ts";
import nodeProgram from "../steps/node.pl" with { type: "text" };
import type { PodFiles } from "./bundle/mounts.ts";
import { checkNamespaceModes, type PodNamespaces } from "./bundle/namespaces.ts";
import { seccompChoice } from "./bundle/seccomp.ts";
import { userNamespaceOf } from "./bundle/user_namespace.ts";
import type { NetworkOf } from "./means.ts";
import type { Node } from "./node.ts";
import pause from "./pause.pl" with { type: "text" };
import type { Places } from "./places.ts";
import { checkCgroupParent, type PodCgroups } from "./pod_cgroups.ts";
import startPause from "./start_pause.pl" with { type: "text" };
import { checkSysctls } from "./sysctls.ts";

/** The lowest port that everybody may listen at (ip-sysctl.rst). */
const LOWEST_PORT = "net.ipv4.ip_unprivileged_port_start";
/** What the kernel keeps of a name (gethostname(2)). */
const MAX_HOSTNAME_BYTES = 64;
/** As other runtimes have it. */
const SHM_BYTES = 64 * 1024 * 1024;
/** What a pod's containers can write into its files in /etc beyond what these hold; else they could fill /run. */
const ETC_ROOM_BYTES = 1024 * 1024;

/** What is mounted in a pod's folder, if the pod has it. */
const MOUNTED: ReadonlySet<string> = new Set(["etc", "ipc", "pid", "shm", "uts"]);

/**
 * Makes a pod's namespaces, each held by a mount of its file, the memory that its containers share, and its kernel
 * settings. $1 the folder, $2 the host name or nothing, $3 its network or nothing, $4 the namespaces to make, $5 the
 * size of shared memory or nothing, $6 the program of the first process, $7 the one that starts it, $8
 * the size of its files in /etc; then settings as NAME=VALUE.
 */
const MAKE = `
cd "$1"
folder=$1 hostname=$2 network=$3 kinds=$4 shm=$5 pause=$6 start=$7 etc=$8
shift 8
mkdir etc
mount -t tmpfs -o "nosuid,nodev,noexec,mode=755,size=$etc" etc etc
[ -z "$shm" ] || { mkdir shm; mount -t tmpfs -o "nosuid,nodev,noexec,mode=1777,size=$shm" shm shm; }
set -- sh -euc '
  [ -z "$1" ] || printf %s "$1" >/proc/sys/kernel/hostname
  shift
  for setting; do
    (printf %s "\${setting#*=}" >"/proc/sys/$(printf %s "\${setting%%=*}" | tr . /)") 2>/dev/null ||
      { echo "the kernel refuses $setting" >&2; exit 1; }
  done' sh "$hostname" "$@"
for kind in $kinds; do
  : >"$kind"
  case $kind in pid) ;; *) set -- "--$kind=$kind" "$@" ;; esac
done
set -- unshare "$@"
[ -z "$network" ] || set -- nsenter "--net=$network" "$@"
"$@"
case " $kinds " in
*" pid "*) perl -e "$start" "$folder" "$pause" ;;
esac`;

/**
 * Ends a pod's first process and lets go of its namespaces; what is not there does not matter. umount(8) takes a name that
 * is no whole path for the source of a mount too, which may be another pod's.
 */
const END = `
cd "$1" 2>/dev/null || exit 0
if [ -s pause ] && grep -qsF -- "--pid=$1/pid" "/proc/$(cat pause)/cmdline"; then kill -9 "$(cat pause)"; fi
for name in pid ipc uts shm etc; do umount -l -- "$1/$name" 2>/dev/null || true; done`;

/** Says so when a pod that has processes of its own has lost the first of them, and all others with it. */
const LOOK = `
[ ! -e "$1/pid" ] || { [ -s "$1/pause" ] && grep -qsF -- "--pid=$1/pid" "/proc/$(cat "$1/pause")/cmdline"; } || echo lost`;

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

  async run(id: string, config: PodSandboxConfig): Promise<void> {
    const options = config.linux?.securityContext?.namespaceOptions;
    const folder = this.places.pod(id);
    const network = this.networkOf(id, config) ?? "";
    const ownIpc = options?.ipc !== NamespaceMode.NODE;
    const ownUts = options?.network !== NamespaceMode.NODE;
    const sysctls = config.linux?.sysctls ?? {};
    checkNamespaceModes(options);
    const users = userNamespaceOf(options);
    checkOwnUser(config);
    // Of its own it has no program, yet its containers will say the same.
    seccompChoice(config.linux?.securityContext);
    checkSysctls(sysctls, { ipc: ownIpc, network: network !== "" });
    const hostname = ownUts ? config.hostname : "";
    checkHostname(hostname);
    const cgroupParent = config.linux?.cgroupParent ?? "";
    checkCgroupParent(cgroupParent);
    const kinds = [
      ...(ownIpc ? ["ipc"] : []),
      ...(ownUts ? ["uts"] : []),
      ...(sharesProcesses(options) ? ["pid"] : []),
    ];
    try {
      await Deno.mkdir(folder, { recursive: true });
      await Deno.chmod(folder, 0o711);
      await this.cgroups?.claim(id, cgroupParent);
      const files = await this.#etcFiles(config);
      const etcBytes = Object.values(files).reduce((sum, text) => sum + text.length, 0);
      await this.node.script(`make the pod ${config.metadata?.name}`, MAKE, [
        folder,
        hostname,
        network,
        kinds.join(" "),
        ownIpc ? String(SHM_BYTES) : "",
        nodeProgram + pause,
        nodeProgram + startPause,
        String(etcBytes + ETC_ROOM_BYTES),
        // Its root has no rights over a network that was made before its users.
        ...(users !== undefined && network !== "" ? [`${LOWEST_PORT}=0`] : []),
        ...Object.entries(sysctls).map(([name, value]) => `${name}=${value}`),
      ]);
      for (const [file, text] of Object.entries(files)) {
        const path = join(folder, "etc", file);
        await Deno.writeTextFile(path, text);
        await Deno.chmod(path, 0o644);
        if (users !== undefined) await Deno.chown(path, users.uids.hostID, users.gids.hostID);
      }
    } catch (error) {
      await this.remove(id);
      throw error;
    }
  }

  async stop(id: string): Promise<void> {
    if (this.#stopped.has(id)) return;
    await this.node.script("end a pod", END, [this.places.pod(id)]);
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

  /** Whether a pod still has what its containers share, which goes with a reboot, or with its first process. */
  async isWhole(id: string): Promise<boolean> {
    const folder = this.places.pod(id);
    try {
      const { dev } = await Deno.lstat(folder);
      const names = (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name);
      // Every pod has it.
      if (!names.includes("etc")) return false;
      for (const name of names.filter((name) => MOUNTED.has(name))) {
        if ((await Deno.lstat(join(folder, name))).dev === dev) return false;
      }
      return await this.node.script("look at a pod", LOOK, [folder]) === "";
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return false;
      throw error;
    }
  }

  /** Removes pods that a crash left without a record. */
  async removeUnknown(known: ReadonlySet<string>): Promise<void> {
    for await (const { name } of Deno.readDir(this.places.folders.pods)) {
      if (!known.has(name)) await this.remove(name);
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
  hostnameOf({ hostname, linux }: PodSandboxConfig): string {
    const onNode = linux?.securityContext?.namespaceOptions?.network === NamespaceMode.NODE;
    return onNode || hostname === "" ? this.nodeName : hostname;
  }
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
