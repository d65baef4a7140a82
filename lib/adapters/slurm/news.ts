import { join } from "@std/path";
import { CriError } from "../../base/error.ts";
import type { ClusterSession } from "../../executors/ssh/session.ts";
import { newsFolder } from "./news_folder.ts";
import { UNANSWERED, type WatchedJob } from "./watched_job.ts";

/**
 * Marks the jobs that have changed their status files since the last call (`job.hasNews`): each then leaves a file
 * with its container's id in one folder, which is listed instead of reading the files of all. It is a hint that may be
 * missing; who has none is looked at in time.
 *
 * A network file system's client revalidates a directory that is opened (close-to-open consistency, nfs(5)), so that
 * news comes at once where the existence of a file would be remembered for half a minute.
 * @throws CriError when the cluster does not answer.
 */
export async function takeNews(
  session: ClusterSession,
  jobs: ReadonlyMap<string, WatchedJob>,
): Promise<void> {
  const folders = new Set<string>();
  for (const { directory } of jobs.values()) folders.add(newsFolder(directory));
  try {
    for (const folder of folders) {
      const ours = (await session.list(folder) ?? []).filter((id) => jobs.has(id));
      await Promise.all(ours.map(async (id) => {
        const job = jobs.get(id);
        if (job !== undefined) job.hasNews = true;
        // Before the job is looked at: what it tells from now on leaves a new file.
        await session.remove(join(folder, id));
      }));
    }
  } catch (error) {
    if (!(error instanceof CriError) || UNANSWERED.has(error.code)) throw error;
  }
}
