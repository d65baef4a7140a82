/** `multicri images`: what an administrator does about images on the clusters. */
import {
  pruneStoredImages,
  readStoredImages,
  type StoredImage,
} from "../adapters/slurm/stored_images.ts";
import { CriError, messageOf } from "../base/error.ts";
import type { SlurmSettings } from "../config/slurm_settings.ts";
import type { ImagesCommand } from "../config/images_command.ts";
import type { ClusterLogin } from "../executors/ssh/login.ts";
import type { ClusterSessions } from "../executors/ssh/sessions.ts";
import type { RunningServer } from "./running_server.ts";

/** What the commands work on. */
export interface ImagesPlace {
  /** By name; see `knownLogins`. */
  logins: ReadonlyMap<string, ClusterLogin>;
  sessions: ClusterSessions;
  /** Knows the names of images that this node pulled. */
  server: RunningServer;
  slurm: SlurmSettings;
  /** Writes a line for the administrator. */
  print: (line: string) => void;
}

/**
 * Runs a command on every cluster; false when one of them failed, which a line says.
 * @throws CriError when no login is known.
 */
export async function runImagesCommand(
  place: ImagesPlace,
  command: ImagesCommand,
): Promise<boolean> {
  if (place.logins.size === 0) {
    throw new CriError(
      "FAILED_PRECONDITION",
      "Cannot look at images on clusters: no login is known. Name --clusters-file, or set CLUSTER_HOST, " +
        "CLUSTER_USERNAME and CLUSTER_PASSWORD or CLUSTER_KEYVALUE as a pod has them.",
    );
  }
  const names = await place.server.imageNames();
  let allWell = true;
  for (const [name, login] of place.logins) {
    const session = place.sessions.acquire(login);
    try {
      const images = command.kind === "list"
        ? await readStoredImages(session, place.slurm)
        : await pruneStoredImages(session, place.slurm, command.days);
      for (const image of images) place.print(describe(name, image, names));
      const bytes = images.reduce((sum, image) => sum + image.sizeBytes, 0);
      place.print(
        `${name}: ${images.length} image${images.length === 1 ? "" : "s"}${
          command.kind === "prune" ? " removed" : ""
        }, ${megabytes(bytes)}`,
      );
    } catch (error) {
      allWell = false;
      place.print(`${name}: ${messageOf(error)}`);
    } finally {
      place.sessions.release(session);
    }
  }
  if (names === undefined) {
    place.print(
      `The images' names are not known: the server does not answer at ${place.server.socketPath}`,
    );
  }
  return allWell;
}

function describe(
  cluster: string,
  { name, sizeBytes, usedAtMs, inUse }: StoredImage,
  names: ReadonlyMap<string, readonly string[]> | undefined,
): string {
  const known = names?.get(name.replace(/\.sif$/, "")) ?? [];
  const used = inUse ? "in use" : `last asked for ${new Date(usedAtMs).toISOString()}`;
  // Another program of the user's may have put a file there, and its name must not steer a terminal.
  return [`${cluster}: ${name}`, megabytes(sizeBytes), used, ...known].join("  ").replaceAll(
    /\p{C}/gu,
    "?",
  );
}

function megabytes(bytes: number): string {
  return `${(bytes / 1_000_000).toFixed(1)} MB`;
}
