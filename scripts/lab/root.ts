import { findMirror, proxyEnvironment } from "./debian.ts";
import { exists, remove } from "./files.ts";
import { withLock } from "./lock.ts";
import { isAlive, killTree, recordedProcess, recordedScript, runOk, shellWord } from "./process.ts";
import { type Progress, step, waitFor } from "./progress.ts";

/** What a Debian root is made of. */
export interface RootRecipe {
  /** Part of the folder's name. */
  name: string;
  /** Debian's name of the release. */
  suite: string;
  packages: string[];
  /** What is done to the root when its packages are there. */
  finish?: {
    /** Changes whenever the work does. */
    origin: string;
    run: (root: string) => Promise<void>;
  };
}

/** What the lab's hosts run. Changing this list makes a new root. */
export const LAB_ROOT: RootRecipe = {
  name: "lab",
  // The only suite with Apptainer; its Slurm, containerd, CNI plugins and Go are recent too.
  suite: "sid",
  packages: [
    ...["ca-certificates", "procps", "iproute2", "iptables", "tini"],
    ...["slurmctld", "slurmd", "slurm-client", "munge", "openssh-server", "openssh-client"],
    // For accounting.ts.
    ...["slurmdbd", "slurm-wlm-mysql-plugin"],
    // For servers whose clock differs from the cluster's.
    "libfaketime",
    ...["apptainer", "squashfuse", "fuse2fs", "runc", "crun", "containernetworking-plugins"],
    // For the Kubernetes node: another CRI runtime, and the API server's store.
    ...["containerd", "etcd-server"],
    ...["docker-registry", "skopeo", "umoci", "busybox-static"],
    // What clusters differ in: MPI, modules, and login shells beside bash and dash.
    ...["openmpi-bin", "environment-modules", "zsh", "tcsh", "fish"],
  ],
};

/** Raised when the same packages are to be prepared in another way. */
const RECIPE_REVISION = 1;

/** About 200 MB to download and 190 packages to unpack: 1 minute on a quick line, so ten on a slow one. */
const DEBOOTSTRAP_TIMEOUT_MS = 900_000;

/** Twelve hexadecimal digits that change whenever the recipe does. */
export async function rootHash({ suite, packages, finish }: RootRecipe): Promise<string> {
  const work = finish === undefined ? [] : [finish.origin];
  const recipe = JSON.stringify([RECIPE_REVISION, suite, packages, ...work]);
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(recipe));
  return new Uint8Array(digest).toHex().slice(0, 12);
}

/** The folder of a root in the cache. */
export async function rootPath(recipe: RootRecipe, cache: string): Promise<string> {
  return `${cache}/root-${recipe.name}-${await rootHash(recipe)}`;
}

/**
 * Returns the folder of a Debian root as debootstrap leaves it, made on first use and kept in `cache`
 * under its recipe's hash. It appears under that name by a rename when it is complete, so a half-made
 * one is never used. Nothing may write to it: the lab's hosts get copies (see hosts.ts).
 *
 * @throws {Error} when debootstrap fails or takes longer than 15 minutes; the message names its log.
 */
export async function ensureRoot(
  recipe: RootRecipe,
  cache: string,
  progress: Progress,
): Promise<string> {
  const root = await rootPath(recipe, cache);
  if (await exists(root)) return root;
  return await withLock(`${cache}/root.lock`, progress, async () => {
    if (await exists(root)) return root;
    await step(
      progress,
      `Making the Debian root "${recipe.name}" (once; about a minute)`,
      () => makeDebianRoot(recipe, root, cache),
    );
    return root;
  });
}

async function makeDebianRoot(
  recipe: RootRecipe,
  root: string,
  cache: string,
): Promise<void> {
  const partial = `${root}.partial`;
  const statPath = `${cache}/debootstrap.stat`;
  const log = `${cache}/debootstrap.log`;
  await endLeftover(statPath);
  await remove(partial);
  await Deno.mkdir(partial, { recursive: true });
  const mirror = await findMirror();
  const argv = [
    // Namespaces of its own: its mounts and processes end with it, however it ends.
    ...["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"],
    ...["debootstrap", "--variant=minbase", `--include=${recipe.packages.join(",")}`],
    ...[recipe.suite, partial, mirror],
  ];
  const command = `exec ${argv.map(shellWord).join(" ")} >${shellWord(log)} 2>&1`;
  try {
    await runOk(["sh", "-c", recordedScript(statPath, command)], {
      env: await proxyEnvironment(),
      timeoutMs: DEBOOTSTRAP_TIMEOUT_MS,
    });
  } catch (cause) {
    throw new Error(`Cannot make a Debian root from ${mirror}: read ${log}.`, { cause });
  }
  // Downloads and per-machine secrets have no place in what every lab copies.
  const unwanted = "var/cache/apt/archives/*.deb var/lib/apt/lists/* " +
    "etc/ssh/ssh_host_* etc/munge/munge.key";
  await runOk(["sh", "-c", `cd "$1" && rm -rf ${unwanted}`, "sh", partial]);
  await recipe.finish?.run(partial);
  await Deno.rename(partial, root);
}

/** Ends a debootstrap whose caller was killed. */
async function endLeftover(statPath: string): Promise<void> {
  const leftover = await recordedProcess(statPath);
  if (leftover === undefined) return;
  await killTree(leftover.pid);
  await waitFor("The end of an earlier debootstrap", async () => !await isAlive(leftover), {
    timeoutMs: 10_000,
    log: statPath,
  });
}
