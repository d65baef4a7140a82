import { dirname, join } from "@std/path";
import { CriError, messageOf } from "../base/error.ts";
import { NETNS_DIRECTORY } from "../config/network_place.ts";
import type { Executor } from "../executors/executor.ts";
import { runLocked } from "./locked_run.ts";

/** Names of namespaces are this and the sandbox's id, so that everybody sees whose they are. */
const NAME_PREFIX = "multicri-";

/** Each step takes milliseconds; the kernel may be slow to free hundreds of namespaces. */
const STEP_TIMEOUT_MS = 30_000;

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

/** The network namespaces of sandboxes, as ip-netns(8) keeps them: each is mounted on a file. */
export class Namespaces {
  constructor(readonly executor: Executor) {}

  /** Makes a network namespace and sets its loopback up. @throws CriError UNAVAILABLE in ip's words. */
  async make(sandboxId: string, lockPath: string, signal: AbortSignal): Promise<void> {
    const name = NAME_PREFIX + sandboxId;
    await this.#ip(["netns", "add", name], lockPath, signal);
    await this.#ip(["-n", name, "link", "set", "lo", "up"], lockPath, signal);
  }

  /** Removes a network namespace, half-made or whole; a missing one is no error. @throws CriError UNAVAILABLE. */
  async remove(sandboxId: string, lockPath: string, signal?: AbortSignal): Promise<void> {
    try {
      await this.#ip(["netns", "delete", NAME_PREFIX + sandboxId], lockPath, signal);
    } catch (error) {
      if (await isFile(namespacePath(sandboxId))) throw error;
    }
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

  async #ip(args: readonly string[], lockPath: string, signal?: AbortSignal): Promise<void> {
    const { code, stderr } = await runLocked(this.executor, lockPath, ["ip", ...args], {
      timeoutMs: STEP_TIMEOUT_MS,
      ...(signal === undefined ? {} : { signal }),
    });
    if (code === 0) return;
    const words = messageOf(new TextDecoder().decode(stderr));
    throw new CriError(
      "UNAVAILABLE",
      `ip ${args.join(" ")} failed with exit code ${code}: ${words}`,
    );
  }
}

async function isFile(path: string): Promise<boolean> {
  return await Deno.lstat(path).then(() => true, () => false);
}
