import { findMirror, proxyEnvironment } from "./debian.ts";
import { runOk } from "./process.ts";
import { type Progress, step } from "./progress.ts";

/** Debian's only suite with Apptainer; its Slurm, containerd and CNI plugins are recent too. */
const SUITE = "sid";

/** What the lab's hosts run. Changing this list makes a new root. */
const PACKAGES = [
  ...["ca-certificates", "procps", "iproute2", "iptables", "tini"],
  ...["slurmctld", "slurmd", "slurm-client", "munge", "openssh-server"],
  ...["apptainer", "squashfuse", "fuse2fs", "runc", "crun", "containernetworking-plugins"],
  ...["docker-registry", "skopeo", "umoci", "busybox-static"],
];

/** Raised when the same packages are to be prepared in another way. */
const RECIPE_REVISION = 1;

/** About 200 MB to download and 190 packages to unpack: 1 minute on a quick line, so ten on a slow one. */
const DEBOOTSTRAP_TIMEOUT_MS = 900_000;

/** The last part of debootstrap's output that an error needs. */
const LOG_NAME = "debootstrap.log";

/** Twelve hexadecimal digits that change whenever the root's recipe does. */
export async function rootHash(): Promise<string> {
  const recipe = JSON.stringify([RECIPE_REVISION, SUITE, PACKAGES]);
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(recipe));
  return new Uint8Array(digest).toHex().slice(0, 12);
}

/**
 * Returns the folder of a Debian root as debootstrap leaves it, made on first use and kept in `cache`
 * under its recipe's hash. It appears under that name by a rename when it is complete, so a half-made
 * one is never used. Nothing may write to it: hosts get copies (see hosts.ts).
 *
 * @throws {Error} when debootstrap fails or takes longer than 15 minutes; the message names its log.
 */
export async function ensureRoot(cache: string, progress: Progress): Promise<string> {
  const root = `${cache}/root-${SUITE}-${await rootHash()}`;
  if (await exists(root)) return root;
  await step(progress, "Making the Debian root (once; about a minute)", async () => {
    const partial = `${root}.partial`;
    const log = `${cache}/${LOG_NAME}`;
    await remove(partial);
    await Deno.mkdir(partial, { recursive: true });
    const mirror = await findMirror();
    const include = `--include=${PACKAGES.join(",")}`;
    const argv = ["debootstrap", "--variant=minbase", include, SUITE, partial, mirror];
    try {
      await runOk(["sh", "-c", 'log=$1; shift; exec "$@" >"$log" 2>&1', "sh", log, ...argv], {
        env: await proxyEnvironment(),
        timeoutMs: DEBOOTSTRAP_TIMEOUT_MS,
      });
    } catch (cause) {
      throw new Error(`Cannot make the lab's Debian root from ${mirror}: read ${log}.`, { cause });
    }
    // Downloads and per-machine secrets have no place in what every lab copies.
    await runOk([
      ...["sh", "-c"],
      'cd "$1" && rm -rf var/cache/apt/archives/*.deb var/lib/apt/lists/* etc/ssh/ssh_host_* etc/munge/munge.key',
      ...["sh", partial],
    ]);
    await Deno.rename(partial, root);
  });
  return root;
}

/** Whether `path` names anything. */
export async function exists(path: string): Promise<boolean> {
  try {
    await Deno.lstat(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Removes a tree, without ever crossing into another file system that might be mounted in it. */
export async function remove(path: string): Promise<void> {
  await runOk(["rm", "-rf", "--one-file-system", "--", path], { timeoutMs: 120_000 });
}
