import { assertEquals, assertMatch, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { messageOf } from "../../base/error.ts";
import { createLocalExecutor } from "../../executors/local.ts";
import { Node } from "./node.ts";
import { Places } from "./places.ts";
import { checkCgroupParent, PodCgroups } from "./pod_cgroups.ts";

/** Folders in the place of hierarchies: two of version 1, or the one of version 2. */
const HIERARCHIES: Record<string, { own: string[]; folders: string[] }> = {
  "version 1": { own: [], folders: ["memory", "cpu,cpuacct"] },
  "version 2": { own: ["cgroup.controllers", "cgroup.procs"], folders: [""] },
};

interface TestCgroups {
  cgroups: PodCgroups;
  /** Puts a new process in the place of the one that the pods were made by. */
  restart: () => PodCgroups;
  /** Makes a pod's folder and lets it claim its cgroup. */
  run: (pod: string, parent: string) => Promise<void>;
  /** Makes a cgroup in all hierarchies, as crun does. */
  make: (path: string) => Promise<void>;
  /** The cgroups in each hierarchy. */
  all: () => Promise<string[][]>;
}

async function withCgroups(
  { own, folders }: { own: string[]; folders: string[] },
  use: (test: TestCgroups) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "pod-cgroups-" });
  const root = join(folder, "cgroup");
  const places = new Places(folder, join(folder, "state"));
  try {
    await Deno.mkdir(root);
    await Deno.mkdir(places.folders.pods, { recursive: true });
    for (const name of own) await Deno.writeTextFile(join(root, name), "");
    for (const name of folders.filter((name) => name !== "")) {
      await Deno.mkdir(join(root, name));
      await Deno.writeTextFile(join(root, name, "cgroup.procs"), "");
      await Deno.symlink(name, join(root, `link-to-${name}`));
    }
    const open = () => new PodCgroups(new Node(createLocalExecutor()), places, root);
    const cgroups = open();
    const below = async (path: string): Promise<string[]> =>
      (await Promise.all(
        (await Array.fromAsync(Deno.readDir(path))).filter(({ isDirectory }) => isDirectory)
          .map(async ({ name }) => [
            name,
            ...(await below(join(path, name))).map((deep) => `${name}/${deep}`),
          ]),
      )).flat().sort();
    await use({
      cgroups,
      restart: open,
      run: async (pod, parent) => {
        await Deno.mkdir(places.pod(pod));
        await cgroups.claim(pod, parent);
      },
      make: async (path) => {
        for (const name of folders) await Deno.mkdir(join(root, name, path), { recursive: true });
      },
      all: async () => await Promise.all(folders.map((name) => below(join(root, name)))),
    });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

for (const [version, hierarchies] of Object.entries(HIERARCHIES)) {
  const both = (paths: string[]) => hierarchies.folders.map(() => paths);

  Deno.test(`PodCgroups.release() takes away what was not there before the pod, in ${version}`, () =>
    withCgroups(hierarchies, async ({ cgroups, run, make, all }) => {
      await make("/theirs");
      await run("p1", "/theirs/ours/deep * \\t");
      await make("/theirs/ours/deep * \\t");
      await cgroups.release("p1");
      assertEquals(await all(), both(["theirs"]));
      await cgroups.release("p1");
    }));

  Deno.test(`PodCgroups.release() leaves to the last pod what several have, in ${version}`, () =>
    withCgroups(hierarchies, async ({ run, make, all, restart }) => {
      await run("p1", "/ours/p1");
      await make("/ours/p1");
      await run("p2", "ours/p2/");
      await make("/ours/p2");
      // As after a crash.
      const cgroups = restart();
      await cgroups.release("p1");
      assertEquals(await all(), both(["ours", "ours/p2"]));
      await cgroups.release("p2");
      assertEquals(await all(), both([]));
    }));

  Deno.test(`PodCgroups.release() leaves what somebody uses, and what a kubelet made, in ${version}`, () =>
    withCgroups(hierarchies, async ({ cgroups, run, make, all }) => {
      await make("/kubepods/pod1");
      await run("p1", "/kubepods/pod1");
      await run("p2", "/ours");
      await make("/ours/of-another-program");
      for (const pod of ["p1", "p2", "p3"]) await cgroups.release(pod);
      assertEquals(
        await all(),
        both(["kubepods", "kubepods/pod1", "ours", "ours/of-another-program"]),
      );
    }));

  Deno.test(`PodCgroups.release() leaves what containers without a cgroup of their pod share, in ${version}`, () =>
    withCgroups(hierarchies, async ({ cgroups, run, make, all }) => {
      await run("p1", "");
      await run("p2", "/multicri/x");
      await make("/multicri/x");
      for (const pod of ["p1", "p2"]) await cgroups.release(pod);
      assertEquals(await all(), both(["multicri"]));
    }));
}

const GOOD = [
  "",
  "/",
  "rel/path",
  "/kubepods/burstable/pod-1",
  "kubepods-burstable.slice",
  "memory.slice",
  "/a/.b/…c/ d",
  `/${"n".repeat(255)}`,
  "/x".repeat(32),
];

for (const parent of GOOD) {
  Deno.test(`checkCgroupParent() takes ${parent.slice(0, 30)}`, () => checkCgroupParent(parent));
}

const BAD: [parent: string, message: RegExp][] = [
  ["../../x", /cgroup_parent must be a path of names/],
  ["/a/./b", /cgroup_parent must be a path of names/],
  ["/a\nb", /"\/a\\nb": cgroup_parent must be a path of names/],
  ["/a\0b", /cgroup_parent must be a path of names/],
  ["/cgroup.procs/x", /a name of the kernel's own files/],
  ["/a/tasks", /a name of the kernel's own files/],
  ["/a/memory.max", /a name of the kernel's own files/],
  [`/${"ä".repeat(128)}`, /names of 255 bytes at most/],
  ["/x".repeat(33), /1024 bytes and 32 names at most, and has 66 and 33/],
  [`/${"n/".repeat(500_000)}`, /1024 bytes and 32 names at most, and has 1000001 and 500000/],
];

for (const [parent, message] of BAD) {
  Deno.test(`checkCgroupParent() refuses ${JSON.stringify(parent.slice(0, 30))}`, () => {
    const error = assertThrows(() => checkCgroupParent(parent));
    assertMatch(messageOf(error), message);
    assertEquals(messageOf(error).length < 500, true);
  });
}
