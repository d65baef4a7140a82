import { exists } from "./files.ts";
import { readIfThere, runOk } from "./process.ts";

/** One mounted cgroup hierarchy, and the folder in it that stands for the calling process. */
export interface Hierarchy {
  /** The mount's options that name it, as `memory` or `none,name=systemd`; empty for cgroup v2. */
  controllers: string;
  /** Where a host mounts it, below /sys/fs/cgroup; empty for the folder itself. */
  mountName: string;
  /** The caller's own cgroup as a path on the machine. */
  ownFolder: string;
}

/**
 * Joins /proc/self/cgroup (lines `id:controllers:path`) with /proc/self/mountinfo: which hierarchies are
 * mounted, and where this process stands in each. Version 2 is mounted at `unified` beside version 1.
 */
export function parseHierarchies(cgroup: string, mountinfo: string): Hierarchy[] {
  const mounts = mountinfo.split("\n").flatMap((line) => {
    // proc_pid_mountinfo(5): id, parent, device, root, mount point, options, optional fields, "-", type, source, super
    // options.
    const [before = "", after = ""] = line.split(" - ");
    const [type = "", , superOptions = ""] = after.split(" ");
    const [, , , root = "/", mountPoint = ""] = before.split(" ");
    return type.startsWith("cgroup") ? [{ type, root, mountPoint, superOptions }] : [];
  });
  const version1 = mounts.some(({ type }) => type === "cgroup");
  return cgroup.trim().split("\n").flatMap((line) => {
    const [id = "", controllers = "", path = ""] = line.split(/:(.*?):/s);
    const mount = mounts.find(({ type, superOptions }) =>
      id === "0" ? type === "cgroup2" : type === "cgroup" &&
        controllers.split(",").every((name) => superOptions.split(",").includes(name))
    );
    if (mount === undefined) return [];
    const below = mount.root === "/" ? path : path.slice(mount.root.length);
    return [{
      controllers: id === "0" ? "" : controllers.replace(/^name=/, "none,name="),
      mountName: id === "0" ? (version1 ? "unified" : "") : controllers.replace(/^name=/, ""),
      ownFolder: `${mount.mountPoint}${below}`.replace(/\/$/, ""),
    }];
  });
}

/** This process's cgroup hierarchies. */
export async function hierarchies(): Promise<Hierarchy[]> {
  const cgroup = await readIfThere("/proc/self/cgroup") ?? "";
  return parseHierarchies(cgroup, await readIfThere("/proc/self/mountinfo") ?? "");
}

/**
 * Makes the cgroup `group` below the caller's own in every hierarchy.
 *
 * @returns the folders made; a process joins by writing its pid to `cgroup.procs` in each.
 */
export async function makeGroup(all: Hierarchy[], group: string): Promise<string[]> {
  const folders: string[] = [];
  for (const { ownFolder, controllers } of all) {
    const folder = `${ownFolder}/${group}`;
    await Deno.mkdir(folder, { recursive: true });
    if (controllers === "cpuset") {
      // cpuset(7): a new set is empty, and nothing can join it until it is filled.
      for (const file of ["cpuset.cpus", "cpuset.mems"]) {
        await Deno.writeTextFile(
          `${folder}/${file}`,
          await Deno.readTextFile(`${ownFolder}/${file}`),
        );
      }
      await Deno.writeTextFile(`${folder}/cgroup.clone_children`, "1");
    }
    folders.push(folder);
  }
  return folders;
}

/** Removes cgroups and all below them; their processes must have ended. */
export async function removeGroups(folders: string[]): Promise<void> {
  for (const folder of folders) {
    // A folder of cgroups is removed by rmdir, deepest first.
    if (await exists(folder)) {
      await runOk(["find", folder, "-depth", "-type", "d", "-exec", "rmdir", "{}", "+"]);
    }
  }
}
