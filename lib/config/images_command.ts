import { UsageError } from "./usage_error.ts";

/** An administrator's command about the images that lie on the clusters. */
export type ImagesCommand =
  | { kind: "list" }
  /** Removes images that no container names and none asked for since so many days. */
  | { kind: "prune"; days: number };

/** What `multicri images` takes. */
export const IMAGES_USAGE = `multicri images list [flags]                 images on the clusters
multicri images prune [DAYS] [flags]         remove those not asked for since so many days (7)`;

/** Long enough that a job that is made again every week keeps its image. */
const DEFAULT_DAYS = 7;

/**
 * Parses the words after `images`, up to the first flag.
 * @throws UsageError with a sentence about what is wrong.
 */
export function parseImagesCommand(words: readonly string[]): ImagesCommand {
  const [verb, days, ...rest] = words;
  if (verb === "list" && days === undefined) return { kind: "list" };
  if (verb === "prune" && rest.length === 0) {
    if (days === undefined) return { kind: "prune", days: DEFAULT_DAYS };
    if (/^[1-9]\d{0,3}$/.test(days)) return { kind: "prune", days: Number(days) };
    throw wrong(`${JSON.stringify(days)} is no number of days from 1 to 9999`);
  }
  throw wrong(
    verb === undefined
      ? "it must be told what to do"
      : `${JSON.stringify(words.join(" "))} is unknown`,
  );
}

function wrong(why: string): UsageError {
  return new UsageError(
    `Cannot run 'multicri images': ${why}. It must be one of these:`,
    IMAGES_USAGE,
  );
}
