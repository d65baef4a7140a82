import { join } from "@std/path";
import type { Clock } from "../../base/clock.ts";
import { CriError } from "../../base/error.ts";
import { KeyedMutex } from "../../base/keyed_mutex.ts";
import type { ClusterSession } from "../../executors/ssh/session.ts";
import type { ImageRecord, SifFile } from "../../store/records.ts";
import {
  claimImageScript,
  IMAGE_IS_FOREIGN,
  IMAGE_IS_THERE,
  landImageScript,
  releaseImageScript,
  VOLUME_FILE_EXIT,
  volumeFileScript,
} from "./image_scripts.ts";

/** Below this size an upload is too short to be worth a line in the container's log. */
const ANNOUNCED_UPLOAD_BYTES = 16 * 1024 * 1024;
/** sha256sum on a busy shared file system is at least this fast (20 MB/s). */
const SLOWEST_HASH_BYTES_PER_MS = 20_000;
/** A script on a file system that hangs. */
const SCRIPT_TIMEOUT_MS = 60_000;
/** How often it is looked whether somebody else has brought an image; a person does not notice two seconds. */
const LOOK_INTERVAL_MS = 2_000;
/** Whoever brings an image and shows no change for so long is dead; he shows one every ten seconds. */
const DEAD_AFTER_MS = 120_000;

/** Where images are looked for on a cluster, absolute. */
export interface ImagePlaces {
  /** Where we put them. */
  own: string;
  /** Where the site keeps some, which we only read. */
  site: string | undefined;
  /** The container's volume. */
  volume: string | undefined;
}

/** Tells a person who follows the container's log. */
export type Announce = (message: string) => Promise<void>;

/** The images that lie on one cluster for one account. */
export class ClusterImages {
  readonly #bringing = new KeyedMutex();

  constructor(readonly session: ClusterSession, readonly clock: Clock) {}

  /**
   * Makes sure that the image lies on the cluster, and returns its path there.
   * @throws CriError FAILED_PRECONDITION when it cannot, NOT_FOUND when it is a file of a volume that is not there,
   * PERMISSION_DENIED when that lies outside the volume.
   */
  async provide(
    image: ImageRecord,
    places: ImagePlaces,
    signal: AbortSignal,
    announce: Announce,
  ): Promise<string> {
    const { sif, volumeFile } = image;
    if (sif === undefined) return await this.#volumeFile(volumeFile?.path ?? "", places);
    const name = `${image.id.slice("sha256:".length)}.sif`;
    if (places.site !== undefined) {
      const installed = join(places.site, name);
      if (await this.session.stat(installed) !== undefined) return installed;
    }
    const path = join(places.own, name);
    await this.#bringing.runExclusive(
      path,
      () => this.#bring(places.own, name, sif, signal, announce),
    );
    return path;
  }

  /** Uploads the image unless it is there, or somebody else is at it: another server, whom it is left to. */
  async #bring(
    directory: string,
    name: string,
    sif: SifFile,
    signal: AbortSignal,
    announce: Announce,
  ): Promise<void> {
    const part = `${name}.${crypto.randomUUID()}.part`;
    let seen = "";
    let seenAtMs = 0;
    for (;;) {
      signal.throwIfAborted();
      const answer = await this.#run(
        claimImageScript(directory, name, part),
        `make the image directory ${directory}`,
      );
      const [holder = ""] = answer.split("\n");
      if (holder === IMAGE_IS_THERE) return;
      if (holder === IMAGE_IS_FOREIGN) {
        throw this.#failure(`use the image ${join(directory, name)}`, "another user owns it");
      }
      if (holder === part) return await this.#upload(directory, name, part, sif, signal, announce);
      const now = this.clock.now();
      if (seen === "") {
        await announce(`waiting for the image, which is on its way to ${this.session.name}`);
      }
      if (answer !== seen) [seen, seenAtMs] = [answer, now];
      else if (now - seenAtMs >= DEAD_AFTER_MS) {
        await this.#run(releaseImageScript(directory, name, holder), "take over an upload");
      }
      await this.clock.sleep(LOOK_INTERVAL_MS, signal);
    }
  }

  async #upload(
    directory: string,
    name: string,
    part: string,
    sif: SifFile,
    signal: AbortSignal,
    announce: Announce,
  ): Promise<void> {
    const megabytes = Math.ceil(sif.sizeBytes / 1_000_000);
    try {
      if (sif.sizeBytes >= ANNOUNCED_UPLOAD_BYTES) {
        await announce(`uploading the image (${megabytes} MB) to ${this.session.name}`);
      }
      await this.session.upload(sif.path, join(directory, part), { mode: 0o600, signal });
      await this.#run(
        landImageScript(directory, name, part, sif.sha256),
        `verify the uploaded image ${join(directory, name)} by its SHA-256`,
        SCRIPT_TIMEOUT_MS + sif.sizeBytes / SLOWEST_HASH_BYTES_PER_MS,
      );
    } catch (error) {
      // Whoever waits may begin at once. Without this he does when nothing changes for a while.
      await this.session.run(releaseImageScript(directory, name, part)).catch(() => {});
      throw error;
    }
  }

  /** A file of the container's volume, else of the site's directory. */
  async #volumeFile(path: string, places: ImagePlaces): Promise<string> {
    const root = places.volume ?? places.site;
    const what = `the image ${JSON.stringify(path)}`;
    if (root === undefined) {
      throw new CriError(
        "FAILED_PRECONDITION",
        `Cannot use ${what}: local-image.PATH needs a volume mounted at /multicri in the container, or the site's ` +
          "directory of images (CRI_SLURM_SITE_IMAGES).",
      );
    }
    const { code, stdout, stderr } = await this.session.run(volumeFileScript(root, path), {
      timeoutMs: SCRIPT_TIMEOUT_MS,
    });
    const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes).trim();
    if (code === 0) return decode(stdout);
    const where = `${this.session.name}:${root}`;
    if (code === VOLUME_FILE_EXIT.OUTSIDE) {
      throw new CriError(
        "PERMISSION_DENIED",
        `Cannot use ${what}: a link leads out of its volume ${where}.`,
      );
    }
    if (code === VOLUME_FILE_EXIT.NO_FILE || code === VOLUME_FILE_EXIT.NO_VOLUME) {
      const missing = code === VOLUME_FILE_EXIT.NO_FILE
        ? "no readable file of that name is in"
        : "there is no directory";
      throw new CriError("NOT_FOUND", `Cannot use ${what}: ${missing} ${where}.`);
    }
    throw this.#failure(`use ${what}`, decode(stderr) || `exit code ${code}`);
  }

  /** Runs a script that must succeed, and returns what it prints. */
  async #run(script: string, purpose: string, timeoutMs = SCRIPT_TIMEOUT_MS): Promise<string> {
    const result = await this.session.run(script, { timeoutMs });
    if (result.code === 0) return new TextDecoder().decode(result.stdout);
    const words = new TextDecoder().decode(result.stderr).trim() || `exit code ${result.code}`;
    throw this.#failure(purpose, words);
  }

  #failure(task: string, words: string): CriError {
    return new CriError(
      "FAILED_PRECONDITION",
      `Cannot ${task} on ${this.session.name}: ${words}`,
    );
  }
}
