import { CriError, messageOf } from "../base/error.ts";
import type { Config } from "./flags.ts";

/** The directories that we write into, by the flags that choose them. */
type Directories = Pick<Config, "podLogsDir" | "resourcesCachePath" | "rootDir" | "stateDir">;

/** How the kernel and SQLite say that there is no room. */
const FULL = /no space left on device|disk quota exceeded|database or disk is full/i;

/**
 * What was thrown; or, where its words are that a path of ours had no room, a CriError RESOURCE_EXHAUSTED that names
 * the flag of the directory. Other paths, as the kernel's cgroups, say the same of something else.
 */
export function namingFullDisk(thrown: unknown, directories: Directories): unknown {
  const words = messageOf(thrown);
  if (!FULL.test(words)) return thrown;
  const { podLogsDir, resourcesCachePath, rootDir, stateDir } = directories;
  const full = Object.entries({
    "--pod-logs-dir": podLogsDir,
    "--resources-cache-path": resourcesCachePath,
    "--root-dir": rootDir,
    "--state-dir": stateDir,
  })
    .map(([flag, path]) => ({ flag, path, at: words.lastIndexOf(`${path}/`) }))
    .filter(({ at }) => at >= 0)
    // The cause stands last; and one may lie in another.
    .sort((a, b) => b.at - a.at || b.path.length - a.path.length)[0];
  if (full === undefined) return thrown;
  const { flag, path: directory } = full;
  const task = words.startsWith("Cannot ")
    ? words.split(": ", 1)[0]
    : `Cannot write ${/'([^']+)'/.exec(words)?.[1] ?? directory}`;
  return new CriError(
    "RESOURCE_EXHAUSTED",
    `${task}: the file system of ${directory} (${flag}) has no room, or no inode, left; free some.`,
    { cause: thrown },
  );
}
