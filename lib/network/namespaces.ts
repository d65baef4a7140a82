import { dirname, join } from "@std/path";
import { CriError, messageOf } from "../base/error.ts";
import { NETNS_DIRECTORY } from "../config/network_place.ts";
import type { Executor } from "../executors/executor.ts";
import { runLocked } from "./locked_run.ts";

/** Names of namespaces are this and the sandbox's id, so that everybody sees whose they are. */
const NAME_PREFIX = "multicri-";

/** Each step takes milliseconds; the kernel may be slow to free hundreds of namespaces. */
const STEP_TIMEOUT_MS = 30_000;

/**
 * Makes the namespace $1, without ip-netns(8): its first `add` mounts the directory over itself, with all that other
 * runtimes have mounted in it. What is mounted twice they unmount once, and can never remove.
 */
const MAKE = `
mkdir -p -m 755 "\${1%/*}"
set -C
: >"$1"
exec unshare --net="$1" ip link set lo up`;

/**
 * Removes the namespace of the name $1 at the path $2. Where somebody's `ip netns add` has mounted it twice, the file
 * can be removed from where both mounts are undone; the kernel then undoes them everywhere.
 */
const REMOVE = `
ip netns delete "$1" 2>/dev/null || [ ! -e "$2" ] || exec unshare --mount --propagation private sh -euc '
  for path in "\${1%/*}" "$1"; do
    while umount --lazy "$path" 2>/dev/null; do :; done
  done
  rm "$1"' sh "$2"`;

/** The path of a sandbox's network namespace, whether it is there or not. */
export function namespacePath(sandboxId: string): string {
  return join(NETNS_DIRECTORY, NAME_PREFIX + sandboxId);
}

/**
 * Whether a network namespace is there: a half-made or removed one is an empty file, on which nothing is mounted.
 * @throws CriError INTERNAL when it cannot be looked at.
 */
export async function isNamespace(path: string): Promise<boolean> {
  try {
    const [file, directory] = await Promise.all([Deno.lstat(path), Deno.lstat(dirname(path))]);
    return file.dev !== directory.dev;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw new CriError(
      "INTERNAL",
      `Cannot look at the network namespace ${path}: ${messageOf(error)}`,
    );
  }
}

/** The network namespaces of sandboxes: each is mounted on a file, where ip-netns(8) finds them too. */
export class Namespaces {
  constructor(readonly executor: Executor) {}

  /** Makes a network namespace with its loopback up. @throws CriError UNAVAILABLE in the programs' words. */
  async make(sandboxId: string, lockPath: string, signal: AbortSignal): Promise<void> {
    const path = namespacePath(sandboxId);
    await this.#script(`make the network namespace ${path}`, MAKE, [path], lockPath, signal);
  }

  /** Removes a network namespace, half-made or whole; a missing one is no error. @throws CriError UNAVAILABLE. */
  async remove(sandboxId: string, lockPath: string, signal?: AbortSignal): Promise<void> {
    const path = namespacePath(sandboxId);
    const args = [NAME_PREFIX + sandboxId, path];
    await this.#script(`remove the network namespace ${path}`, REMOVE, args, lockPath, signal);
  }

  async exists(sandboxId: string): Promise<boolean> {
    return await isNamespace(namespacePath(sandboxId));
  }

  /** The sandboxes of all servers of this node that have a namespace. */
  async sandboxes(): Promise<string[]> {
    const ids: string[] = [];
    try {
      for await (const { name } of Deno.readDir(NETNS_DIRECTORY)) {
        if (name.startsWith(NAME_PREFIX)) ids.push(name.slice(NAME_PREFIX.length));
      }
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
    return ids;
  }

  async #script(
    what: string,
    script: string,
    args: readonly string[],
    lockPath: string,
    signal?: AbortSignal,
  ): Promise<void> {
    const argv = ["sh", "-euc", script, "sh", ...args];
    const { code, stderr } = await runLocked(this.executor, lockPath, argv, {
      timeoutMs: STEP_TIMEOUT_MS,
      ...(signal === undefined ? {} : { signal }),
    });
    if (code === 0) return;
    const words = messageOf(new TextDecoder().decode(stderr));
    throw new CriError("UNAVAILABLE", `Cannot ${what}: exit code ${code}: ${words}`);
  }
}
