import { CriError } from "../../base/error.ts";
import type { Executor } from "../../executors/executor.ts";
import nodeProgram from "../steps/node.pl" with { type: "text" };
import { namesOfSet } from "./bundle/capabilities.ts";
import { type NodeDevice, parseDevices } from "./bundle/devices.ts";
import type { Machine } from "./bundle/seccomp.ts";
import measureProgram from "./measure.pl" with { type: "text" };
import { lastWords } from "./oci_runtime.ts";

/** What the scripts do takes milliseconds; a loaded node may need much longer. */
const SCRIPT_TIMEOUT_MS = 60_000;
/** A seccomp profile has some 10 KiB. */
const MAX_PROFILE_BYTES = 1024 * 1024;

const FACTS = `
grep -E '^Cap(Bnd|Eff):' /proc/self/status
echo "oom: $(cat /proc/self/oom_score_adj)"
echo "kernel: $(uname -r)"
echo "files: $(ulimit -Hn)"
[ -e /sys/fs/cgroup/cgroup.controllers ] && echo "cgroup2: yes"
grep -qsw hugetlb /sys/fs/cgroup/cgroup.controllers || [ -d /sys/fs/cgroup/hugetlb ] && echo "hugetlb: yes"
for file in /sys/fs/cgroup/memory/memory.memsw.limit_in_bytes /sys/fs/cgroup/*/memory.swap.max; do
  [ ! -e "$file" ] || { echo "swap: yes"; break; }
done
[ "$(cat /sys/module/apparmor/parameters/enabled 2>/dev/null)" = Y ] && echo "apparmor: yes"
[ -e /sys/fs/selinux/enforce ] && echo "selinux: yes"
true`;
const FIND_PATHS = `for path; do realpath -ez -- "$path" 2>/dev/null || printf '\\0'; done`;
/**
 * Device nodes: those that the arguments are or lead to, and those in folders, as deep as /dev/bus/usb/001/001 lies in
 * /dev; without what each container has of its own, and programs of machines with containers leave there.
 */
const FIND_DEVICES = `
format='%f %t %T %u %g %n'
find -H "$@" -maxdepth 0 \\( -type c -o -type b \\) -exec stat -L -c "$format" {} +
find -H "$@" -mindepth 1 -maxdepth 4 \\
  -type d \\( -name pts -o -name shm -o -name fd -o -name mqueue -o -name '.*' \\) -prune -o \\
  ! -name console \\( -type c -o -type b \\) -exec stat -c "$format" {} +`;

/** What this node is and has, as far as containers depend on it. */
export interface NodeFacts {
  /** The capabilities that containers can have at most. */
  capabilities: readonly string[];
  /** How readily the kernel kills this process for memory. */
  oomScore: number;
  /** Whether containers may be protected better than that. */
  mayLowerOomScore: boolean;
  /** Whether there is one cgroup hierarchy for all, cgroups(7) version 2. */
  hasUnifiedCgroups: boolean;
  hasAppArmor: boolean;
  /** Whether a cgroup can limit huge pages. */
  canLimitHugepages: boolean;
  /** Whether it can limit memory and swap together. */
  canLimitSwap: boolean;
  hasSelinux: boolean;
  machine: Machine;
  /** As uname(1) -r tells it. */
  kernel: string;
  /** The most files that a process here may raise its limit of open ones to (RLIMIT_NOFILE, getrlimit(2)). */
  mostOpenFiles: number;
}

/**
 * What is asked of and done to this node by small shell programs, since /proc, /sys and mounts are beyond this process.
 */
export class Node {
  constructor(private readonly executor: Executor) {}

  /** Runs a program of sh(1) with arguments; returns its stdout. @throws CriError INTERNAL in its words. */
  async script(purpose: string, text: string, args: readonly string[] = []): Promise<string> {
    return await this.#run(purpose, ["sh", "-euc", text, "sh", ...args]);
  }

  /** What the cgroups of containers tell, whose folders these files list; cgroup_figures.ts reads it. */
  async cgroupFiles(lists: readonly string[]): Promise<string> {
    return await this.#run("measure containers", [
      "perl",
      "-e",
      nodeProgram + measureProgram,
      ...lists,
    ]);
  }

  async facts(): Promise<NodeFacts> {
    const text = await this.script("look at this node", FACTS);
    const value = (name: string) => new RegExp(`^${name}:\\s*(\\S+)$`, "m").exec(text)?.[1];
    return {
      capabilities: namesOfSet(value("CapBnd") ?? "0"),
      oomScore: Number(value("oom") ?? 0),
      mayLowerOomScore: namesOfSet(value("CapEff") ?? "0").includes("CAP_SYS_RESOURCE"),
      hasUnifiedCgroups: value("cgroup2") === "yes",
      hasAppArmor: value("apparmor") === "yes",
      canLimitHugepages: value("hugetlb") === "yes",
      canLimitSwap: value("swap") === "yes",
      hasSelinux: value("selinux") === "yes",
      machine: Deno.build.arch,
      kernel: value("kernel") ?? "",
      mostOpenFiles: Number(value("files")),
    };
  }

  /** Paths with symbolic links followed; undefined for each that is not there. */
  async realPaths(paths: readonly string[]): Promise<(string | undefined)[]> {
    if (paths.length === 0) return [];
    const text = await this.script("look for the mounts' sources", FIND_PATHS, paths);
    return text.split("\0").slice(0, paths.length).map((path) => path === "" ? undefined : path);
  }

  /** The device nodes at and below these paths; a missing one has none. */
  async devices(paths: readonly string[]): Promise<NodeDevice[]> {
    if (paths.length === 0) return [];
    // Of what is not there it complains.
    const { stdout } = await this.executor.run(["sh", "-c", FIND_DEVICES, "sh", ...paths], {
      timeoutMs: SCRIPT_TIMEOUT_MS,
    });
    return parseDevices(new TextDecoder().decode(stdout));
  }

  /** A file of the node. @throws CriError INVALID_ARGUMENT when it cannot be read. */
  async profile(path: string): Promise<string> {
    const result = await this.executor.run(["sh", "-c", 'exec cat -- "$1"', "sh", path], {
      timeoutMs: SCRIPT_TIMEOUT_MS,
      maxOutputBytes: MAX_PROFILE_BYTES,
    });
    if (result.code === 0) return new TextDecoder().decode(result.stdout);
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot use the seccomp profile ${path}: it must be a file of this node: ${
        lastWords(result)
      }.`,
    );
  }

  async #run(purpose: string, argv: [string, ...string[]]): Promise<string> {
    const result = await this.executor.run(argv, { timeoutMs: SCRIPT_TIMEOUT_MS });
    if (result.code === 0) return new TextDecoder().decode(result.stdout);
    throw new CriError("INTERNAL", `Cannot ${purpose}: ${lastWords(result)}.`);
  }
}
