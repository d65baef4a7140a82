import { join } from "@std/path";
import { CriError, messageOf } from "../base/error.ts";
import { NETNS_DIRECTORY } from "../config/network_place.ts";
import type { Executor, RunResult } from "../executors/executor.ts";
import { runLocked } from "./locked_run.ts";

/** Names of namespaces are this and the sandbox's id, so that everybody sees whose they are. */
const NAME_PREFIX = "multicri-";

/** Each step takes milliseconds; the kernel may be slow to free hundreds of namespaces. */
const STEP_TIMEOUT_MS = 30_000;

/** The path of a sandbox's network namespace, whether it is there or not. */
export function namespacePath(sandboxId: string): string {
  return join(NETNS_DIRECTORY, NAME_PREFIX + sandboxId);
}

/** Makes a network namespace and sets its loopback up. @throws CriError UNAVAILABLE in ip's words. */
export async function makeNamespace(
  executor: Executor,
  sandboxId: string,
  lockPath: string,
  signal: AbortSignal,
): Promise<void> {
  const name = NAME_PREFIX + sandboxId;
  const steps = [["ip", "netns", "add", name], ["ip", "-n", name, "link", "set", "lo", "up"]];
  for (const step of steps) {
    const result = await runLocked(executor, lockPath, step, {
      timeoutMs: STEP_TIMEOUT_MS,
      signal,
    });
    if (result.code !== 0) throw stepFailed(step, result);
  }
}

/** Removes a sandbox's network namespace, half-made or whole; a missing one is no error. @throws CriError UNAVAILABLE. */
export async function removeNamespace(
  executor: Executor,
  sandboxId: string,
  lockPath: string,
): Promise<void> {
  const step = ["ip", "netns", "delete", NAME_PREFIX + sandboxId];
  const result = await runLocked(executor, lockPath, step, { timeoutMs: STEP_TIMEOUT_MS });
  if (result.code === 0 || !await fileExists(namespacePath(sandboxId))) return;
  throw stepFailed(step, result);
}

/** Whether a namespace is mounted there: a half-made one, or what a reboot of /run alone left, is an empty file. */
export async function namespaceExists(path: string): Promise<boolean> {
  try {
    const [file, directory] = await Promise.all([Deno.lstat(path), Deno.lstat(NETNS_DIRECTORY)]);
    return file.dev !== directory.dev;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw new CriError(
      "INTERNAL",
      `Cannot look at the network namespace ${path}: ${messageOf(error)}`,
    );
  }
}

/** The sandboxes of all servers of this node that have a namespace. */
export async function namespacedSandboxes(): Promise<string[]> {
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

async function fileExists(path: string): Promise<boolean> {
  return await Deno.lstat(path).then(() => true, () => false);
}

function stepFailed(step: readonly string[], { code, stderr }: RunResult): CriError {
  const words = new TextDecoder().decode(stderr).trim();
  return new CriError("UNAVAILABLE", `${step.join(" ")} failed with exit code ${code}: ${words}`);
}
