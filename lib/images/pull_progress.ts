import type { Clock } from "../base/clock.ts";
import { CriError } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import { watchProgress } from "../base/watch_progress.ts";
import { diskUsage } from "./disk_usage.ts";

/** How often a pull is looked at; an administrator who follows the log sees one line each time. */
const LOOK_INTERVAL_MS = 30_000;
/** Looks without a new byte until a pull counts as stalled: five minutes, as containerd waits. */
const MAX_IDLE_LOOKS = 10;

/** What a pull does: each writes as long as it goes on. */
export type PullStep = "Downloading" | "Building";

/**
 * Runs a step of a pull, which writes below `directory`, and logs how far it is. Its signal aborts with `signal`, and
 * when for five minutes nothing was written: a registry that hangs would else hold a place of the few for two hours.
 * @throws CriError UNAVAILABLE when it stalls; whatever `run` throws.
 */
export async function watchPull<T>(
  { step, image, directory, clock, log, signal }: {
    step: PullStep;
    /** For messages. */
    image: string;
    directory: string;
    clock: Clock;
    log: Logger;
    signal: AbortSignal;
  },
  run: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const minutes = MAX_IDLE_LOOKS * LOOK_INTERVAL_MS / 60_000;
  const nothing = step === "Downloading"
    ? `no byte arrived for ${minutes} minutes; try again when its server answers`
    : `Apptainer wrote no byte of the SIF for ${minutes} minutes`;
  return await watchProgress({
    clock,
    signal,
    intervalMs: LOOK_INTERVAL_MS,
    maxIdleLooks: MAX_IDLE_LOOKS,
    look: async () => {
      const { bytes } = await diskUsage(directory);
      log.info(`${step} an image`, { image, megabytes: Number(bytes / 1_000_000n) });
      return bytes;
    },
    stalled: () => new CriError("UNAVAILABLE", `Cannot pull ${image}: ${nothing}.`),
  }, run);
}
