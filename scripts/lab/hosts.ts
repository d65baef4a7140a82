import { hierarchies, type Hierarchy, makeGroup, removeGroups } from "./cgroups.ts";
import { exists } from "./files.ts";
import {
  childrenOf,
  identify,
  isAlive,
  type ProcessId,
  readIfThere,
  recordedProcess,
  recordedScript,
  runOk,
  shellWord,
  signalIfThere,
} from "./process.ts";
import { waitFor } from "./progress.ts";

/** A folder or file of the machine that a host sees. */
export interface Bind {
  source: string;
  /** Absolute path in the host. */
  target: string;
  readOnly: boolean;
}

/** Which host is meant. */
export interface HostPlace {
  name: string;
  /** The host's folder on the machine: `root/` is what it sees as /, without what is mounted there. */
  folder: string;
}

/** What a host is made of. */
export interface HostPlan extends HostPlace {
  /** The Debian root whose /usr it shares, read-only, and the rest of which it starts with a copy of. */
  base: string;
  binds: Bind[];
  /** The cgroup its processes live in, a folder's name. */
  cgroup: string;
}

/** A host that runs: its first process, which all others end with. */
export interface RunningHost {
  place: HostPlace;
  init: ProcessId;
  /** The folders of the host's cgroup, one a hierarchy. */
  cgroups: string[];
}

/** The host's own first steps take some ten milliseconds; a loaded machine may need much longer. */
const START_TIMEOUT_MS = 30_000;
const STOP_TIMEOUT_MS = 20_000;

/** More than all hosts of a few labs mount images at once. */
const LOOP_DEVICES = 32;

/** A device node: name, type, major, minor (Linux's admin-guide/devices.txt), mode. */
type Device = [string, string, number, number, string];

/** Those of every host. */
const DEVICES: Device[] = [
  ["null", "c", 1, 3, "666"],
  ["zero", "c", 1, 5, "666"],
  ["full", "c", 1, 7, "666"],
  ["random", "c", 1, 8, "666"],
  ["urandom", "c", 1, 9, "666"],
  ["tty", "c", 5, 0, "666"],
  ["kmsg", "c", 1, 11, "600"],
  // Everyone may mount by FUSE, as Debian's udev rules have it: squashfuse needs it.
  ["fuse", "c", 10, 229, "666"],
  ["loop-control", "c", 10, 237, "600"],
  // Apptainer makes what it misses, but not the one whose lock it takes; other hosts may have the first ones in use.
  ...Array.from(
    { length: LOOP_DEVICES },
    (_, number): Device => [`loop${number}`, "b", 7, number, "600"],
  ),
];

/** The folder of a host's root on the machine. */
export function rootFolder(place: HostPlace): string {
  return `${place.folder}/root`;
}

/** The record of the process that made the host's namespaces and is the parent of its first process. */
function launcherStat(place: HostPlace): string {
  return `${place.folder}/launcher.stat`;
}

/** The list of the folders of the host's cgroup, one a line. */
function cgroupList(place: HostPlace): string {
  return `${place.folder}/cgroups`;
}

/** Gives a host a fresh root: everything of the base but /usr, and what the kernel provides. */
export async function makeRoot(plan: HostPlan): Promise<void> {
  const root = rootFolder(plan);
  await Deno.mkdir(root, { recursive: true });
  const provided = new Set(["usr", "proc", "sys", "dev", "run"]);
  const copied: string[] = [];
  for await (const { name } of Deno.readDir(plan.base)) {
    if (provided.has(name)) await Deno.mkdir(`${root}/${name}`);
    else copied.push(`${plan.base}/${name}`);
  }
  await runOk(["cp", "-a", "--reflink=auto", "--", ...copied, root]);
  await Deno.mkdir(`${root}/run/lock`);
}

/**
 * The script that turns a process in fresh namespaces into the host's first process. It pivots the root
 * instead of using chroot, because a process in a chroot may not make user namespaces (unshare(2)).
 */
export function startScript(plan: HostPlan, groups: Hierarchy[]): string {
  const devices = DEVICES.map(([name, type, major, minor, mode]) =>
    `mknod -m ${mode} dev/${name} ${type} ${major} ${minor}`
  );
  const cgroups = groups.map(({ controllers, mountName }) => {
    const target = `sys/fs/cgroup/${mountName}`;
    const mount = controllers === "" ? "-t cgroup2" : `-t cgroup -o ${controllers}`;
    return `mkdir -p ${target} && mount ${mount} cgroup ${target}`;
  });
  const binds = plan.binds.map(({ source, target, readOnly }) => {
    const below = shellWord(target.slice(1));
    return `mkdir -p ${below} && mount --bind ${readOnly ? "-o ro " : ""}${
      shellWord(source)
    } ${below}`;
  });
  const root = shellWord(rootFolder(plan));
  return [
    "set -eu",
    "mount --make-rprivate /",
    `mount --bind ${root} ${root}`,
    `cd ${root}`,
    `mount --bind -o ro ${shellWord(`${plan.base}/usr`)} usr`,
    "mount -t proc proc proc",
    "mount -t sysfs sysfs sys",
    "mount -t tmpfs -o mode=755,size=64k tmpfs dev",
    ...devices,
    "mkdir dev/pts dev/shm",
    "mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts dev/pts",
    "mount -t tmpfs -o mode=1777 tmpfs dev/shm",
    "ln -s pts/ptmx dev/ptmx",
    "ln -s /proc/self/fd dev/fd",
    "for n in 0:stdin 1:stdout 2:stderr; do ln -s /proc/self/fd/${n%%:*} dev/${n#*:}; done",
    "mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup",
    ...cgroups,
    ...binds,
    "mkdir .machine",
    "pivot_root . .machine",
    "cd /",
    "umount -l /.machine",
    "rmdir /.machine",
    // What systemd does on a real host: mounts made later reach the namespaces made from this one.
    "mount --make-rshared /",
    `echo ${shellWord(plan.name)} > /proc/sys/kernel/hostname`,
    ": > /run/host-is-up",
    // tini reaps orphans; the host lives until it is killed.
    "exec tini -s -- sleep infinity",
  ].join("\n") + "\n";
}

/**
 * Starts a host whose root has been made; returns when its first process is in place. The host outlives
 * this program.
 *
 * @throws {Error} when that does not come within 30 s; the message names the log.
 */
export async function startHost(plan: HostPlan): Promise<RunningHost> {
  const log = `${plan.folder}/start.log`;
  const all = await hierarchies();
  const cgroups = all.map(({ ownFolder }) => `${ownFolder}/${plan.cgroup}`);
  await Deno.writeTextFile(cgroupList(plan), cgroups.join("\n"));
  await makeGroup(all, plan.cgroup);
  const script = `${plan.folder}/start.sh`;
  await Deno.writeTextFile(script, startScript(plan, all));
  const unshare = "unshare --mount --uts --ipc --net --pid --cgroup --fork --kill-child=KILL";
  const launcher = recordedScript(
    launcherStat(plan),
    [...joinCommands(cgroups), `exec ${unshare} sh ${shellWord(script)}`].join(" && "),
  );
  await runOk([
    ...["sh", "-c", 'exec setsid --fork sh -c "$1" </dev/null >"$2" 2>&1', "sh", launcher, log],
  ], { env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" } });
  await waitFor(
    `The first process of host ${plan.name}`,
    () => exists(`${rootFolder(plan)}/run/host-is-up`),
    { timeoutMs: START_TIMEOUT_MS, log },
  );
  const host = await findHost(plan);
  if (host === undefined) {
    throw new Error(`Host ${plan.name} ended as soon as it had started: read ${log}.`);
  }
  return host;
}

/** Shell commands by which the shell joins cgroups. */
function joinCommands(cgroups: string[]): string[] {
  return cgroups.map((folder) => `echo $$ > ${shellWord(`${folder}/cgroup.procs`)}`);
}

/** Finds a host that was started earlier, perhaps by another program; undefined when it does not run. */
export async function findHost(place: HostPlace): Promise<RunningHost | undefined> {
  const launcher = await recordedProcess(launcherStat(place));
  if (launcher === undefined) return undefined;
  const [child] = await childrenOf(launcher.pid);
  const init = child === undefined ? undefined : await identify(child);
  if (init === undefined) return undefined;
  return { place, init, cgroups: await recordedCgroups(place) };
}

async function recordedCgroups(place: HostPlace): Promise<string[]> {
  return (await readIfThere(cgroupList(place)))?.split("\n").filter(Boolean) ?? [];
}

/**
 * Ends a host: its processes, and with them its namespaces and mounts; then removes its cgroups. Nothing
 * happens when it does not run.
 *
 * @throws {Error} when the processes are still there after 20 s.
 */
export async function stopHost(place: HostPlace): Promise<void> {
  const launcher = await recordedProcess(launcherStat(place));
  if (launcher !== undefined) {
    // The kernel kills a pid namespace's processes with its first one, and holds that one until all are gone.
    const children = await childrenOf(launcher.pid);
    for (const pid of children) signalIfThere(pid, "SIGKILL");
    if (children.length === 0) signalIfThere(launcher.pid, "SIGKILL");
    await waitFor(`The end of host ${place.name}`, async () => !await isAlive(launcher), {
      timeoutMs: STOP_TIMEOUT_MS,
      log: `/proc/${launcher.pid}/status`,
    });
  }
  await removeGroups(await recordedCgroups(place));
}

/** How a command is run in a host. */
export interface EnterOptions {
  /** The user to run as; root unless told. */
  user?: string;
  /** Added to a clean environment of PATH, HOME, USER, LOGNAME, SHELL and LANG. */
  env?: Record<string, string>;
  /** Absolute path of the working folder; the user's home unless told. */
  cwd?: string;
}

/** A command on the machine, and all of its environment. */
export interface MachineCommand {
  argv: string[];
  env: Record<string, string>;
}

const PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/**
 * The command on the machine that runs `argv` inside a running host. The environment passes beside the
 * argument list, which everyone on the machine can read.
 */
export function enteringCommand(
  host: RunningHost,
  argv: string[],
  options: EnterOptions = {},
): MachineCommand {
  const { user = "root" } = options;
  const home = user === "root" ? "/root" : `/home/${user}`;
  const identity = { PATH, HOME: home, USER: user, LOGNAME: user };
  const switchUser = [`--reuid=${user}`, `--regid=${user}`, "--init-groups"];
  return {
    argv: [
      ...["sh", "-c", [...joinCommands(host.cgroups), 'exec "$@"'].join(" && "), "sh"],
      ...["nsenter", `--target=${host.init.pid}`],
      ...["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"],
      // nsenter forks to enter the pid namespace; what runs inside dies with it.
      ...["setpriv", "--pdeathsig", "KILL", ...(user === "root" ? [] : switchUser), "--"],
      ...["env", `--chdir=${options.cwd ?? home}`, "--", ...argv],
    ],
    env: { ...identity, SHELL: "/bin/bash", LANG: "C.UTF-8", ...options.env },
  };
}
