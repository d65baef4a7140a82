import { CriError } from "../base/error.ts";
import type { RunResult } from "../executors/executor.ts";

/** A download that takes longer is given up; the kubelet sets no deadline of its own. */
export const DOWNLOAD_TIMEOUT_MS = 2 * 3600 * 1000;

/** Longer messages help nobody. */
const MAX_WORDS_CHARACTERS = 1000;

/** skopeo and apptainer log `time=… level=fatal msg="…"`; the message is what a person needs. */
export function lastWords(result: RunResult): string {
  const lines = new TextDecoder().decode(result.stderr).trim().split("\n");
  const last = lines.at(-1) ?? "";
  const message = /msg="((?:[^"\\]|\\.)*)"/.exec(last)?.[1]?.replaceAll('\\"', '"');
  return (message ?? last.trim()).slice(0, MAX_WORDS_CHARACTERS) ||
    `nothing, exit code ${result.code}`;
}

/** Whether a program's words say that the disk is full (ENOSPC, EDQUOT). */
export function diskIsFull(words: string): boolean {
  return /no space left on device|disk quota exceeded/i.test(words);
}

export function fullDiskError(task: string): CriError {
  return new CriError(
    "RESOURCE_EXHAUSTED",
    `Cannot ${task}: the disk of the image pool (--resources-cache-path) is full; remove images or give it more space.`,
  );
}
