import type { Clock } from "../base/clock.ts";
import { CriError } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import { diskUsage } from "./disk_usage.ts";

/** How often a download is looked at; an administrator who follows the log sees one line each time. */
const LOOK_INTERVAL_MS = 30_000;
/** Looks without a new byte until a download counts as stalled: five minutes, as containerd waits. */
const MAX_IDLE_LOOKS = 10;

/**
 * Runs `download`, which writes below `directory`, and logs how far it is. Its signal aborts with `signal`, and when
 * for five minutes nothing arrived: a registry that hangs would else hold a place of the few for two hours.
 * @throws CriError UNAVAILABLE for a stalled download; whatever `download` throws.
 */
export async function watchDownload<T>(
  { image, directory, clock, log, signal }: {
    /** For messages. */
    image: string;
    directory: string;
    clock: Clock;
    log: Logger;
    signal: AbortSignal;
  },
  download: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const stalled = new AbortController();
  const ended = new AbortController();
  const watching = watch().catch((error) => {
    if (!ended.signal.aborted) throw error;
  });
  // Whoever waits for the download is told of its error; a watch that failed stops nothing.
  watching.catch(() => {});
  try {
    return await download(AbortSignal.any([signal, stalled.signal]));
  } catch (error) {
    throw stalled.signal.aborted ? stalled.signal.reason : error;
  } finally {
    ended.abort();
    await watching.catch(() => {});
  }

  async function watch(): Promise<void> {
    let known = -1n;
    for (let idle = 0; idle < MAX_IDLE_LOOKS;) {
      await clock.sleep(LOOK_INTERVAL_MS, ended.signal);
      const { bytes } = await diskUsage(directory);
      idle = bytes === known ? idle + 1 : 0;
      known = bytes;
      log.info("Downloading an image", { image, megabytes: Number(bytes / 1_000_000n) });
    }
    const minutes = MAX_IDLE_LOOKS * LOOK_INTERVAL_MS / 60_000;
    stalled.abort(
      new CriError(
        "UNAVAILABLE",
        `Cannot pull ${image}: no byte arrived for ${minutes} minutes; try again when its server answers.`,
      ),
    );
  }
}
