import { fromFileUrl } from "@std/path";
import { COMPILER } from "./busybox.ts";
import { installPrerequisites } from "./debian.ts";
import { exists, remove } from "./files.ts";
import type { Lab } from "./lab.ts";
import { withLock } from "./lock.ts";
import { runOk } from "./process.ts";
import { type Progress, step } from "./progress.ts";
import { ensureRoot, rootHash, type RootRecipe } from "./root.ts";

/** What ranks find in their image: Open MPI as the lab's nodes have it. */
const MPI_ROOT: RootRecipe = { name: "mpi", suite: "sid", packages: ["openmpi-bin"] };

const PROGRAM_SOURCE = fromFileUrl(new URL("mpi_ranks.c", import.meta.url));
/** Where the image has its program, told in mpi_ranks.c. */
export const MPI_PROGRAM = "/usr/local/bin/mpi-ranks";

/** 400 MB to copy and to compress on two busy cores. */
const BUILD_TIMEOUT_MS = 540_000;

/**
 * Returns the path on the machine of a SIF with Open MPI and `MPI_PROGRAM`, made on first use with the Apptainer of
 * the lab, which must be up, and kept in the cache.
 *
 * @throws {Error} when a step fails; the message holds the last words.
 */
export async function ensureMpiImage(lab: Lab, progress: Progress): Promise<string> {
  const { cache } = lab.settings;
  const source = new TextEncoder().encode(await Deno.readTextFile(PROGRAM_SOURCE));
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", source)).toHex();
  const path = `${cache}/mpi-${await rootHash(MPI_ROOT)}-${digest.slice(0, 12)}.sif`;
  if (await exists(path)) return path;
  await installPrerequisites(progress, COMPILER);
  const root = await ensureRoot(MPI_ROOT, cache, progress);
  return await withLock(`${cache}/mpi.lock`, progress, async () => {
    if (await exists(path)) return path;
    const folder = "/tmp/mpi-image";
    const work = lab.path("registry", folder);
    const options = { timeoutMs: BUILD_TIMEOUT_MS };
    await step(progress, "Making the image with Open MPI (once; about a minute)", async () => {
      await remove(work);
      await Deno.mkdir(work);
      await runOk(["cp", "-a", "--reflink=auto", "--", root, `${work}/root`], options);
      await runOk(["gcc", "-Os", "-o", `${work}/root${MPI_PROGRAM}`, PROGRAM_SOURCE, "-ldl"]);
      const build = ["apptainer", "--silent", "build", `${folder}/mpi.sif`, `${folder}/root`];
      const { code, stderr } = await lab.exec("registry", build, options);
      if (code !== 0) throw new Error(`Cannot make the image with Open MPI: ${stderr}`);
      await runOk(["mv", "-T", "--", `${work}/mpi.sif`, `${path}.partial`], options);
      await Deno.rename(`${path}.partial`, path);
      await remove(work);
    });
    return path;
  });
}
