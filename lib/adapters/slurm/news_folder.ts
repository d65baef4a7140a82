import { dirname, join } from "@std/path";
import { quoteShell } from "../../../wasm/core.ts";

/** Beside the directories of the sandboxes; `multicri_announce` in the job's script knows it too. */
export const NEWS_FOLDER = ".news";

/** Where the container of this directory leaves its file. */
export function newsFolder(directory: string): string {
  return join(dirname(dirname(directory)), NEWS_FOLDER);
}

/**
 * Removes what nobody has taken for a day, because its server is away or its container was not ours to remove: the
 * folder stays short. Whose news it was is looked at in time.
 * @param mountPath Of the working directory, below the home directory.
 */
export function pruneNewsScript(mountPath: string): string {
  return `find "$HOME"/${
    quoteShell(mountPath)
  }/${NEWS_FOLDER} -type f -mtime +0 -exec rm -f {} + 2>/dev/null`;
}
