import { lastWords } from "./process.ts";

/** Receives one line of plain text for a person who waits. */
export type Progress = (line: string) => void;

/** How often a long step says that it is still at work: often enough to be seen as alive. */
const HEARTBEAT_MS = 10_000;

/**
 * Runs `work` as a named step: says when it begins, every 10 s that it goes on, and how many seconds it
 * took. What `work` throws passes through.
 */
export async function step<T>(
  progress: Progress,
  title: string,
  work: () => Promise<T>,
): Promise<T> {
  const begin = performance.now();
  const seconds = () => ((performance.now() - begin) / 1000).toFixed(1);
  progress(`${title} …`);
  const heartbeat = setInterval(
    () => progress(`${title}: still at work after ${seconds()} s`),
    HEARTBEAT_MS,
  );
  try {
    const result = await work();
    progress(`${title}: done in ${seconds()} s`);
    return result;
  } finally {
    clearInterval(heartbeat);
  }
}

/** How often `waitFor` looks again. */
const POLL_MS = 50;

/**
 * Waits until `check` returns true, looking every 50 ms.
 *
 * @throws {Error} when that has not come within `timeoutMs`: a sentence that names `what`, and the log with its end,
 *   because the log is gone with the machine of a continuous integration.
 */
export async function waitFor(
  what: string,
  check: () => Promise<boolean>,
  { timeoutMs, log }: { timeoutMs: number; log: string },
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!await check()) {
    if (performance.now() > deadline) {
      const seconds = timeoutMs / 1000;
      const end = lastWords(await Deno.readTextFile(log).catch(() => ""));
      throw new Error(
        `${what} did not come up within ${seconds} s: read ${log}, which ends with: ${end}`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
