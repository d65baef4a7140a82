import { join } from "@std/path";
import type { Logger } from "../base/log.ts";
import type { ImageRecord } from "../store/records.ts";
import type { Table } from "../store/table.ts";

/**
 * Brings the pool's files and records together again after a crash: unfinished pulls and files without a record are
 * removed, and records whose file is gone.
 */
export async function recoverPool(
  sifDir: string,
  workDir: string,
  images: Table<ImageRecord>,
  log: Logger,
): Promise<void> {
  await Deno.remove(workDir, { recursive: true }).catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  });
  await Deno.mkdir(workDir, { recursive: true, mode: 0o700 });
  await Deno.mkdir(sifDir, { recursive: true, mode: 0o700 });
  const files = new Set<string>();
  for await (const entry of Deno.readDir(sifDir)) files.add(join(sifDir, entry.name));
  for (const { id, sif } of images.all()) {
    if (sif === undefined || files.delete(sif.path)) continue;
    log.warning("An image's file is gone from the pool; pull it again", { image: id });
    images.delete(id);
  }
  for (const path of files) await Deno.remove(path, { recursive: true });
}
