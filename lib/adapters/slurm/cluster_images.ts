import { join } from "@std/path";
import type { Clock } from "../../base/clock.ts";
import { CriError } from "../../base/error.ts";
import { KeyedMutex } from "../../base/keyed_mutex.ts";
import { Slots } from "../../base/slots.ts";
import { watchProgress } from "../../base/watch_progress.ts";
import type { RunResult } from "../../executors/executor.ts";
import type { ClusterSession } from "../../executors/ssh/session.ts";
import type { ImageRecord, SifFile } from "../../store/records.ts";
import { ImageMaker, type Means } from "./image_maker.ts";
import {
  claimImageScript,
  IMAGE_IS_FOREIGN,
  IMAGE_IS_THERE,
  receiveImageScript,
  releaseImageScript,
  TAKEN_OVER_EXIT,
  VOLUME_FILE_EXIT,
  volumeFileScript,
} from "./image_scripts.ts";

/** Below this size an upload is too short to be worth a line in the container's log. */
const ANNOUNCED_UPLOAD_BYTES = 16 * 1024 * 1024;
/** A script on a file system that hangs. */
const SCRIPT_TIMEOUT_MS = 60_000;
/** How often it is looked whether somebody else has brought an image; a person does not notice two seconds. */
const LOOK_INTERVAL_MS = 2_000;
/** Whoever brings an image and shows no change for so long is dead; he shows one every ten seconds. */
const DEAD_AFTER_MS = 60_000;
const UPLOAD_LOOK_MS = 10_000;
/** Each may take a core of the node and of the login host, and is a connection of its own. */
const MAX_CONCURRENT_UPLOADS = 4;

const SHA256_DIGITS = 64;

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
  readonly #uploads = new Slots(MAX_CONCURRENT_UPLOADS);
  readonly #maker: ImageMaker;

  constructor(readonly session: ClusterSession, readonly clock: Clock) {
    this.#maker = new ImageMaker(session, clock);
  }

  /**
   * Makes sure that the image lies on the cluster, and returns its path there.
   * @throws CriError FAILED_PRECONDITION when it cannot, NOT_FOUND when it is a file of a volume that is not there,
   * PERMISSION_DENIED when that lies outside the volume.
   */
  async provide(
    image: ImageRecord,
    places: ImagePlaces,
    means: Means,
    signal: AbortSignal,
    announce: Announce,
  ): Promise<string> {
    const { sif, volumeFile, clusterSource } = image;
    if (volumeFile?.kind === "local-image") {
      return (await this.#volumeFile(volumeFile.path, places)).file;
    }
    if (volumeFile !== undefined) {
      const { file, hash } = await this.#volumeFile(volumeFile.path, places, true);
      const directory = file.slice(0, file.lastIndexOf("/"));
      const told = `building the image from ${volumeFile.path}`;
      // Files that the definition names are beside it, so equal texts elsewhere are other images.
      const name = `${hash}-${await shortHash(directory)}.def.sif`;
      return await this.#bring(
        places.own,
        name,
        signal,
        announce,
        (part) => {
          const words = ["build", "--force", "--disable-cache", join(places.own, part), file];
          const from = directory;
          const made = { directory: places.own, name, part };
          return this.#maker.make(made, { words, told, from }, means, signal, announce);
        },
      );
    }
    const name = `${image.id.slice("sha256:".length)}.sif`;
    if (places.site !== undefined) {
      const installed = join(places.site, name);
      if (await this.session.stat(installed) !== undefined) return installed;
    }
    if (sif !== undefined) {
      const upload = (part: string) => this.#upload(places.own, name, part, sif, signal, announce);
      return await this.#bring(places.own, name, signal, announce, upload, this.#uploads);
    }
    return await this.#bring(places.own, name, signal, announce, async (part) => {
      const words = [
        "pull",
        "--force",
        "--disable-cache",
        join(places.own, part),
        clusterSource ?? "",
      ];
      const told = `pulling ${clusterSource}`;
      const from = places.own;
      const made = { directory: places.own, name, part };
      await this.#maker.make(made, { words, told, from }, means, signal, announce);
    });
  }

  /**
   * Brings the image by `make` unless it is there, or somebody else is at it, to whom it is left: a container of this
   * server or another server. Returns its path.
   * @param turns For those who would bring different images; taken before the right to, because whoever has that must
   * show that he is alive.
   */
  async #bring(
    directory: string,
    name: string,
    signal: AbortSignal,
    announce: Announce,
    make: (part: string) => Promise<void>,
    turns?: Slots,
  ): Promise<string> {
    const path = join(directory, name);
    const bring = async () => {
      const part = `${name}.${crypto.randomUUID()}.part`;
      if (!await this.#claim(directory, name, part, signal, announce)) return;
      try {
        await make(part);
      } catch (error) {
        // Whoever waits may begin at once. Without this he does when nothing changes for a while.
        await this.session.run(releaseImageScript(directory, name, part)).catch(() => {});
        throw error;
      }
    };
    await this.#bringing.runExclusive(
      path,
      () => turns === undefined ? bring() : turns.run(bring, signal),
    );
    return path;
  }

  /** Resolves with true when it is for the caller to bring the image, with false when it is there. */
  async #claim(
    directory: string,
    name: string,
    part: string,
    signal: AbortSignal,
    announce: Announce,
  ): Promise<boolean> {
    let seen = "";
    let seenAtMs = 0;
    for (;;) {
      signal.throwIfAborted();
      const answer = await this.#run(
        claimImageScript(directory, name, part),
        `make the image directory ${directory}`,
      );
      const [holder = ""] = answer.split("\n");
      if (holder === IMAGE_IS_THERE) return false;
      if (holder === IMAGE_IS_FOREIGN) {
        throw this.#failure(`use the image ${join(directory, name)}`, "another user owns it");
      }
      if (holder === part) return true;
      const now = this.clock.now();
      if (seen === "") {
        await announce(`waiting for the image, which is on its way to ${this.session.name}`);
      }
      if (answer !== seen) {
        [seen, seenAtMs] = [answer, now];
      } else if (now - seenAtMs >= DEAD_AFTER_MS) {
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
    if (sif.sizeBytes >= ANNOUNCED_UPLOAD_BYTES) {
      const megabytes = Math.ceil(sif.sizeBytes / 1_000_000);
      await announce(`uploading the image (${megabytes} MB) to ${this.session.name}`);
    }
    const script = receiveImageScript(directory, name, part, sif.sha256);
    const result = await watchProgress({
      clock: this.clock,
      signal,
      intervalMs: UPLOAD_LOOK_MS,
      maxIdleLooks: DEAD_AFTER_MS / UPLOAD_LOOK_MS,
      look: async () => {
        const arrived = await this.session.stat(join(directory, part));
        return `${arrived?.sizeBytes} ${arrived?.mtimeMs}`;
      },
      stalled: () => this.#stalled("nothing of it arrived"),
    }, (signal) => this.session.send(script, sif.path, signal));
    if (result.code === TAKEN_OVER_EXIT) {
      throw this.#stalled("another server took over when nothing of it had arrived");
    }
    this.#succeeded(result, `upload the image ${join(directory, name)}`);
  }

  #stalled(what: string): CriError {
    return new CriError(
      "UNAVAILABLE",
      `Cannot upload the image to ${this.session.name}: ${what} for ${DEAD_AFTER_MS / 1000} s.`,
    );
  }

  /** A file of the container's volume, else of the site's directory. */
  async #volumeFile(
    path: string,
    places: ImagePlaces,
    hash = false,
  ): Promise<{ file: string; hash: string }> {
    const root = places.volume ?? places.site;
    const what = `the image ${JSON.stringify(path)}`;
    if (root === undefined) {
      throw new CriError(
        "FAILED_PRECONDITION",
        `Cannot use ${what}: a file needs a volume mounted at /multicri in the container, or the site's ` +
          "directory of images (CRI_SLURM_SITE_IMAGES).",
      );
    }
    const { code, stdout, stderr } = await this.session.run(
      volumeFileScript(root, path, { hash }),
      {
        timeoutMs: SCRIPT_TIMEOUT_MS,
      },
    );
    const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes).trim();
    if (code === 0) {
      const [file = "", sum = ""] = decode(stdout).split("\n");
      return { file, hash: sum.slice(0, SHA256_DIGITS) };
    }
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
  async #run(script: string, purpose: string): Promise<string> {
    return this.#succeeded(
      await this.session.run(script, { timeoutMs: SCRIPT_TIMEOUT_MS }),
      purpose,
    );
  }

  #succeeded(result: RunResult, purpose: string): string {
    if (result.code === 0) return new TextDecoder().decode(result.stdout);
    const words = new TextDecoder().decode(result.stderr).trim().replaceAll(/\s*\n\s*/g, "; ") ||
      `exit code ${result.code}`;
    throw this.#failure(purpose, words);
  }

  #failure(task: string, words: string): CriError {
    return new CriError(
      "FAILED_PRECONDITION",
      `Cannot ${task} on ${this.session.name}: ${words}`,
    );
  }
}

/** Enough of a hash to tell the directories of one account apart. */
async function shortHash(text: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return new Uint8Array(digest).toHex().slice(0, 16);
}
