import type { Progress } from "./progress.ts";

/** Longer than the longest `up`, which makes the Debian root on a slow line. */
const LOCK_TIMEOUT_MS = 1_200_000;
const LOCK_POLL_MS = 200;

/**
 * Runs `work` while this program alone holds the lock file (flock(2): the kernel frees it when its holder
 * dies). Says so when it must wait.
 *
 * @throws {Error} when the lock did not become free within 20 minutes.
 */
export async function withLock<T>(
  path: string,
  progress: Progress,
  work: () => Promise<T>,
): Promise<T> {
  await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
  const file = await Deno.open(path, { read: true, write: true, create: true });
  try {
    const deadline = performance.now() + LOCK_TIMEOUT_MS;
    for (let said = false; !await file.tryLock(true);) {
      if (performance.now() > deadline) {
        throw new Error(`Another program has held ${path} for 20 minutes: end it and try again.`);
      }
      if (!said) progress("Another program is starting or removing this lab: waiting for it");
      said = true;
      await new Promise((resolve) => setTimeout(resolve, LOCK_POLL_MS));
    }
    return await work();
  } finally {
    file.close();
  }
}
