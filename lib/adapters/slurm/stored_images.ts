import { CriError } from "../../base/error.ts";
import type { SlurmSettings } from "../../config/slurm_settings.ts";
import type { ClusterSession } from "../../executors/ssh/session.ts";
import { quoteShell } from "../../../wasm/core.ts";

/** A file system that hangs, or one with very many containers. */
const LIST_TIMEOUT_MS = 120_000;
const SECONDS_A_DAY = 24 * 3600;

/** An image in an account's image directory on a cluster. */
export interface StoredImage {
  /** The file's name: the image's id in hexadecimal digits, `.sif`. */
  name: string;
  sizeBytes: number;
  /** When a container last asked for it, in milliseconds since the epoch on the cluster's clock. */
  usedAtMs: number;
  /** Whether a container that has not been removed names it, or a job in Slurm's queue. */
  inUse: boolean;
}

/**
 * Lists the account's images on the cluster, those that lie in a site's directory apart.
 * @throws CriError FAILED_PRECONDITION when the directory cannot be read, or Slurm does not tell what is in its queue;
 * as `ClusterSession.run`.
 */
export async function readStoredImages(
  session: ClusterSession,
  settings: SlurmSettings,
): Promise<StoredImage[]> {
  return await run(session, listScript(settings, "tell"));
}

/**
 * Removes those that no container names and none has asked for since `days` days; returns them. The age keeps an
 * image whose container is just being started.
 * @param days A whole number, at least 1.
 * @throws CriError as `readStoredImages`.
 */
export async function pruneStoredImages(
  session: ClusterSession,
  settings: SlurmSettings,
  days: number,
): Promise<StoredImage[]> {
  const old = `[ "$used" = no ] && [ $(($(date +%s) - \${about#* })) -ge ${days * SECONDS_A_DAY} ]`;
  return await run(session, listScript(settings, `${old} && rm -f "$image" && tell`));
}

/**
 * Does `action` for each image; `tell` prints a line of it. Containers are found by their directories, and those of
 * servers with another mount path by the directories of their jobs.
 */
function listScript(settings: SlurmSettings, action: string): string {
  const work = quoteShell(settings.mountPath);
  const images = settings.imageRemoteMount === undefined
    ? quoteShell(`${settings.mountPath}/.images`)
    : quoteShell(settings.imageRemoteMount);
  return `
cd "$HOME" || exit 1
jobs=$(squeue --noheader --user="$(id -un)" --format=%Z) || exit 1
named=$(
  find ${work} -mindepth 3 -maxdepth 3 -name job.sh -exec grep -h '^multicri_image=' {} + 2>/dev/null
  printf '%s\\n' "$jobs" | while IFS= read -r directory; do
    grep -h '^multicri_image=' "$directory/job.sh" 2>/dev/null
  done
)
[ -d ${images} ] || exit 0
cd ${images} || exit 1
tell() { printf '%s %s %s\\n' "$used" "$about" "$image"; }
for image in *.sif; do
  [ -f "$image" ] && [ -O "$image" ] || continue
  about=$(stat -c '%s %Y' "$image") || continue
  case $named in *"$image"*) used=yes ;; *) used=no ;; esac
  ${action}
done
exit 0
`;
}

async function run(session: ClusterSession, script: string): Promise<StoredImage[]> {
  const { code, stdout, stderr } = await session.run(script, { timeoutMs: LIST_TIMEOUT_MS });
  if (code !== 0) {
    throw new CriError(
      "FAILED_PRECONDITION",
      `Cannot read the images on ${session.name}: ${new TextDecoder().decode(stderr).trim()}`,
    );
  }
  return new TextDecoder().decode(stdout).split("\n").filter((line) => line !== "").map((line) => {
    const [used, size, seconds, ...name] = line.split(" ");
    return {
      name: name.join(" "),
      sizeBytes: Number(size),
      usedAtMs: Number(seconds) * 1000,
      inUse: used === "yes",
    };
  });
}
