import { join } from "@std/path";
import { Mutex } from "async-mutex";
import { CriError } from "../../base/error.ts";
import { shown } from "../../base/shown.ts";
import { CGROUP_PARENT } from "./bundle/bundle.ts";
import type { Node } from "./node.ts";
import type { Places } from "./places.ts";

/** What a file system takes for one name (NAME_MAX). */
const MAX_NAME_BYTES = 255;
/** Behind it come a container's id and a file's name, and a path has 4,096 bytes (PATH_MAX); a kubelet's takes 200. */
const MAX_PARENT_BYTES = 1024;
/** Each stands once in every hierarchy; a kubelet within a container of another one takes ten. */
const MAX_PARENT_NAMES = 32;
/** Names of the kernel's own files in cgroups (cgroup-v2.rst, Avoid Name Collisions; cgroup-v1); a slice is none. */
const KERNEL_FILE = new RegExp(
  "^(tasks|notify_on_release|release_agent|" +
    "(blkio|cgroup|cpu|cpuacct|cpuset|devices|dmem|freezer|hugetlb|io|irq|memory|misc|net_cls|" +
    "net_prio|perf_event|pids|rdma)\\..*(?<!\\.slice))$",
);

/** Where hierarchies of cgroups are mounted. */
const ROOT = "/sys/fs/cgroup";

/**
 * Looks for the cgroups that the arguments behind the root $1 name in each hierarchy; prints a line for each: whether
 * it is there (1 or 0) and its path. Version 2 alone has its files in the root itself.
 */
const LOOK = `
root=$1
shift
set -f
if [ -e "$root/cgroup.controllers" ]; then hierarchies=$root
else
  hierarchies=
  for folder in $(ls "$root"); do
    [ -L "$root/$folder" ] || [ ! -e "$root/$folder/cgroup.procs" ] || hierarchies="$hierarchies $root/$folder"
  done
fi
for hierarchy in $hierarchies; do
  for name; do
    there=0
    [ ! -d "$hierarchy$name" ] || there=1
    printf '%s\n' "$there $hierarchy$name"
  done
done`;

/** Removes empty cgroups, in their order. One that somebody else uses too stays. */
const REMOVE = 'for path; do rmdir -- "$path" 2>/dev/null || true; done';

/**
 * The cgroups that pods name as their parents and that nobody has made: crun makes them for the first container, and
 * the last pod that has one takes it away. Which they are is written down in the pods' folders. A kubelet makes and
 * removes its own.
 */
export class PodCgroups {
  /** What one pod takes away another one may begin to use. */
  readonly #turn = new Mutex();

  /** @param root Where cgroups are mounted. */
  constructor(
    private readonly node: Node,
    private readonly places: Places,
    private readonly root = ROOT,
  ) {}

  /** Remembers what is missing of a pod's cgroups before there are any of its containers; its folder must be there. */
  async claim(podId: string, parent: string): Promise<void> {
    const wanted = ancestry(parent);
    if (wanted.length === 0) return;
    await this.#turn.runExclusive(async () => {
      const ofOthers = await this.#ofOthers(podId);
      const lines = await this.node.script("look for cgroups", LOOK, [this.root, ...wanted]);
      const made = lines.split("\n").filter((line) => line !== "").flatMap((line) => {
        const path = line.slice(2);
        return line.startsWith("0") || ofOthers.has(path) ? [path] : [];
      });
      if (made.length === 0) return;
      await Deno.writeTextFile(this.#file(podId), made.map((path) => `${path}\n`).join(""));
    });
  }

  /** Takes away what was missing, unless another pod has it too; nothing when that was done. */
  async release(podId: string): Promise<void> {
    await this.#turn.runExclusive(async () => {
      const made = await this.#read(podId);
      if (made.length === 0) return;
      const ofOthers = await this.#ofOthers(podId);
      // Longer paths lie deeper.
      const gone = made.filter((path) => !ofOthers.has(path))
        .toSorted((a, b) => b.length - a.length);
      await this.node.script("remove the pod's cgroups", REMOVE, gone);
      await Deno.remove(this.#file(podId));
    });
  }

  async #ofOthers(podId: string): Promise<ReadonlySet<string>> {
    const pods = await Array.fromAsync(Deno.readDir(this.places.folders.pods));
    const others = pods.map(({ name }) => name).filter((name) => name !== podId);
    return new Set((await Promise.all(others.map((id) => this.#read(id)))).flat());
  }

  /** Nothing for a pod whose cgroups were all there. A line that a crash cut off does not count. */
  async #read(podId: string): Promise<string[]> {
    try {
      return (await Deno.readTextFile(this.#file(podId))).split("\n").slice(0, -1);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return [];
      throw error;
    }
  }

  #file(podId: string): string {
    return join(this.places.pod(podId), "cgroups");
  }
}

/** A cgroup and those above it, without the one that containers without a place share, and which stays. */
function ancestry(parent: string): string[] {
  const names = namesOf(parent);
  return names.map((_, index) => `/${names.slice(0, index + 1).join("/")}`)
    .filter((path) => path !== CGROUP_PARENT);
}

function namesOf(parent: string): string[] {
  return parent.split("/").filter((name) => name !== "");
}

/** @throws CriError INVALID_ARGUMENT for a cgroup that no kernel can have, or that leads out of its file system. */
export function checkCgroupParent(parent: string): void {
  const names = namesOf(parent);
  const encoder = new TextEncoder();
  const bytes = encoder.encode(parent).length;
  const bad = names.find((name) =>
    name === "." || name === ".." || /\p{Cc}/u.test(name) || KERNEL_FILE.test(name) ||
    encoder.encode(name).length > MAX_NAME_BYTES
  );
  const why = bytes > MAX_PARENT_BYTES || names.length > MAX_PARENT_NAMES
    ? `cgroup_parent must have ${MAX_PARENT_BYTES} bytes and ${MAX_PARENT_NAMES} names at most, and has ` +
      `${bytes} and ${names.length}`
    : bad !== undefined
    ? `cgroup_parent must be a path of names of ${MAX_NAME_BYTES} bytes at most, none of them ".", "..", with control ` +
      "characters, or a name of the kernel's own files in cgroups"
    : undefined;
  if (why === undefined) return;
  throw new CriError(
    "INVALID_ARGUMENT",
    `Cannot run the pod in the cgroup ${shown(parent)}: ${why}.`,
  );
}
