import { runOk } from "./process.ts";

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
