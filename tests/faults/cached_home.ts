import { basename } from "@std/path";
import { aptInstall } from "../../scripts/lab/debian.ts";
import { exists } from "../../scripts/lab/files.ts";
import type { Lab } from "../../scripts/lab/lab.ts";
import { runOk } from "../../scripts/lab/process.ts";

const FOLDER = "/opt/bindfs";
const PROGRAM = "/usr/bin/bindfs";

/**
 * Lets the login host see /home as a client of NFS does: what compute nodes write and make there is noticed
 * `cacheSeconds` later, except by who opens a file that he knows (direct_io stands for close-to-open consistency).
 * Nodes see each other at once.
 *
 * @throws {Error} when bindfs cannot be installed on the machine, or does not mount.
 */
export async function cacheHome(lab: Lab, cacheSeconds: number): Promise<AsyncDisposable> {
  if (!await exists(PROGRAM)) await aptInstall(["bindfs"]);
  const folder = lab.path("ctl", FOLDER);
  await Deno.mkdir(folder, { recursive: true });
  const libraries = (await runOk(["ldd", PROGRAM])).matchAll(/=> (\S*libfuse\S*)/g);
  for (const path of [PROGRAM, ...[...libraries].map(([, path = ""]) => path)]) {
    await Deno.copyFile(path, `${folder}/${basename(path)}`);
  }
  const timeouts = ["attr", "entry", "negative"].map((kind) => `${kind}_timeout=${cacheSeconds}`);
  const options = ["direct_io", ...timeouts].join(",");
  const argv = [`${FOLDER}/bindfs`, "--multithreaded", "-o", options, "/home", "/home"];
  const { code, stderr } = await lab.exec("ctl", argv, { env: { LD_LIBRARY_PATH: FOLDER } });
  if (code !== 0) throw new Error(`bindfs cannot mount /home: ${stderr}`);
  return {
    async [Symbol.asyncDispose]() {
      await lab.exec("ctl", ["umount", "--lazy", "/home"]);
    },
  };
}
