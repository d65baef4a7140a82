import { createHash } from "node:crypto";
import { join } from "@std/path";
import { Semaphore } from "async-mutex";
import type { Clock } from "../base/clock.ts";
import { CriError } from "../base/error.ts";
import { KeyedMutex } from "../base/keyed_mutex.ts";
import type { Logger } from "../base/log.ts";
import {
  type Image,
  type ImageFsInfoResponse,
  type ImageSpec,
  ImageStatusResponse,
  type PullImageRequest,
} from "../cri/api.generated.ts";
import type { ImageRecord } from "../store/records.ts";
import type { Store } from "../store/store.ts";
import {
  type ImageSource,
  parseImageName,
  type RegistryImage as RegistrySource,
  type VolumeImage,
} from "../../wasm/core.ts";
import { credentialsFor, whyNotSent } from "./credentials.ts";
import { type MeasuredDirectory, poolFsInfo } from "./disk_usage.ts";
import { findImage, hasDigest, isSifItself } from "./find_image.ts";
import { listedImage, withoutTag } from "./listed_image.ts";
import { recoverPool } from "./recover_pool.ts";
import { type PullStep, watchPull } from "./pull_progress.ts";
import type { BuiltImage, Puller } from "./puller.ts";
import { type ImageName, nameImage, type NewImage, recordImage } from "./record_image.ts";
import { PLAIN_SIF_CONFIG } from "./sif.ts";
import type { RegistryAccess } from "./skopeo.ts";

/** Downloads and builds at once: each build uses all cores and much of the disk's bandwidth. */
const MAX_CONCURRENT_PULLS = 2;

/**
 * The image pool: one SIF for each image, whatever its names, below `directory`:
 * `sif/<config digest>.sif`, and `work/` for pulls in progress.
 */
export class ImageService {
  readonly #sifDir: string;
  readonly #workDir: string;
  readonly #pulls = new Semaphore(MAX_CONCURRENT_PULLS);
  readonly #names = new KeyedMutex();
  readonly #builds = new KeyedMutex();
  /** Images whose files are needed by what has no record yet. */
  readonly #holds = new Set<{ imageId: string }>();

  constructor(
    readonly directory: string,
    readonly store: Store,
    readonly puller: Puller,
    readonly clock: Clock,
    readonly log: Logger,
    /** Whether clusters pull for themselves what they may. */
    readonly buildInCluster = false,
  ) {
    this.#sifDir = join(directory, "sif");
    this.#workDir = join(directory, "work");
  }

  /** Removes what a crash left: unfinished pulls, files without a record, records without a file. */
  async recover(): Promise<void> {
    await recoverPool(this.#sifDir, this.#workDir, this.store.images, this.log);
    this.collectUnused();
  }

  /**
   * PullImage: returns the image's id.
   * @throws CriError INVALID_ARGUMENT for a malformed name, NOT_FOUND, UNAUTHENTICATED, UNAVAILABLE,
   * RESOURCE_EXHAUSTED when the disk is full.
   */
  async pull(request: PullImageRequest, signal: AbortSignal): Promise<string> {
    const asked = request.image?.image ?? "";
    const source = parseImageName(asked);
    const name = { asked, canonical: source.canonical };
    if (isVolumeFile(source)) {
      return this.#recordVolumeFile(name, { kind: source.kind, path: source.path });
    }
    return await this.#names.runExclusive(
      source.canonical,
      () =>
        this.#pulls.runExclusive(async () => {
          const workDir = await Deno.makeTempDir({ dir: this.#workDir });
          try {
            if (isInRegistry(source)) {
              const { registry, prefixed } = source;
              const auth = credentialsFor(registry, prefixed, request.auth);
              const notSent = whyNotSent(registry, prefixed, request.auth);
              return await this.#pullFromRegistry(name, source, { auth, notSent, workDir, signal });
            }
            const image = await this.#watched(
              asked,
              "Downloading",
              workDir,
              signal,
              (signal) => this.puller.downloadSif(source, workDir, signal),
            );
            return await this.#land(name, [], image.id, () => Promise.resolve(image));
          } finally {
            await Deno.remove(workDir, { recursive: true });
          }
        }),
    );
  }

  async #pullFromRegistry(
    name: ImageName,
    source: RegistrySource,
    access: RegistryAccess,
  ): Promise<string> {
    const { asked } = name;
    const { workDir, signal } = access;
    const digest = await this.puller.resolve(source, access);
    const repoDigests = [`${withoutTag(asked)}@${digest}`];
    // One name after the other, so that several names of one image share its download.
    return await this.#builds.runExclusive(digest, async () => {
      const known = this.store.images.all().find((image) =>
        isSifItself(image) === (source.kind === "oras") && hasDigest(image, digest)
      );
      if (known !== undefined) return nameImage(this.store.images, known.id, name, repoDigests);
      this.log.info("Pulling an image", { image: asked, digest });
      if (
        this.buildInCluster && source.kind === "docker" && !this.puller.mayNeedCredentials(access)
      ) {
        const { id, config } = await this.puller.describe(source, digest, access);
        return this.#record(name, repoDigests, {
          id,
          clusterSource: `docker://${source.registry}/${source.repository}@${digest}`,
          config,
          // Nobody has looked into its layers.
          hasShell: false,
        });
      }
      if (source.kind === "oras") {
        const image = await this.#watched(
          asked,
          "Downloading",
          workDir,
          signal,
          (signal) => this.puller.downloadPushedSif(source, digest, { ...access, signal }),
        );
        return await this.#land(name, repoDigests, image.id, () => Promise.resolve(image));
      }
      const { id, config } = await this.#watched(
        asked,
        "Downloading",
        workDir,
        signal,
        (signal) => this.puller.download(source, digest, { ...access, signal }),
      );
      return await this.#land(name, repoDigests, id, async () => ({
        id,
        config,
        ...await this.#watched(
          asked,
          "Building",
          workDir,
          signal,
          (signal) => this.puller.build(workDir, signal),
        ),
      }));
    });
  }

  #watched<T>(
    image: string,
    step: PullStep,
    directory: string,
    signal: AbortSignal,
    run: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const { clock, log } = this;
    return watchPull({ step, image, directory, clock, log, signal }, run);
  }

  /** Puts what `make` made into the pool, unless it is there by another way, and names it. */
  async #land(
    name: ImageName,
    repoDigests: readonly string[],
    id: string,
    make: () => Promise<BuiltImage>,
  ): Promise<string> {
    return await this.#builds.runExclusive(id, async () => {
      const known = this.store.images.get(id);
      if (known?.sif === undefined) {
        const { sifPath, sizeBytes, sha256, config, hasShell } = await make();
        const path = join(this.#sifDir, `${id.slice("sha256:".length)}.sif`);
        await Deno.rename(sifPath, path);
        this.store.images.delete(id);
        this.#record(name, repoDigests, { id, sif: { path, sizeBytes, sha256 }, config, hasShell });
      }
      this.log.info("Pulled an image", { image: name.asked, id });
      return nameImage(this.store.images, id, name, repoDigests);
    });
  }

  /** A name for a file that only a container's cluster has: nothing is there to be pulled. */
  #recordVolumeFile(
    name: ImageName,
    volumeFile: NonNullable<ImageRecord["volumeFile"]>,
  ): string {
    const id = `sha256:${createHash("sha256").update(name.canonical).digest("hex")}`;
    return this.#record(name, [], { id, volumeFile, config: PLAIN_SIF_CONFIG, hasShell: true });
  }

  #record(name: ImageName, repoDigests: readonly string[], image: NewImage): string {
    return recordImage(this.store.images, image, name, repoDigests, this.clock.now());
  }

  /** ImageStatus; no image in the answer means that it is not there (api.proto). */
  status(spec: ImageSpec | undefined, verbose: boolean): ImageStatusResponse {
    const image = this.#find(spec?.image ?? "");
    return ImageStatusResponse.fromPartial({
      image: image === undefined ? undefined : listedImage(image),
      info: image !== undefined && verbose
        ? {
          info: JSON.stringify(
            { sif: image.sif, volumeFile: image.volumeFile, config: image.config },
            null,
            2,
          ),
        }
        : {},
    });
  }

  /** ListImages, all or the one with that name or id. */
  list(name: string | undefined): Image[] {
    if (name) {
      const image = this.#find(name);
      return image === undefined ? [] : [listedImage(image)];
    }
    return this.store.images.all().filter((image) => !image.removed).map(listedImage);
  }

  /**
   * The image a container names.
   * @throws CriError NOT_FOUND when it was not pulled.
   */
  require(name: string): ImageRecord {
    const image = this.#find(name);
    if (image === undefined) {
      throw new CriError(
        "NOT_FOUND",
        `Cannot use the image '${name}': it is not here, pull it first.`,
      );
    }
    return image;
  }

  /**
   * Runs `work`, which makes a container of images. The files of those that it requires stay until it has ended, also
   * when RemoveImage comes meanwhile, and after that because of the container's record.
   */
  async using<T>(work: (require: (name: string) => ImageRecord) => Promise<T>): Promise<T> {
    const holds: { imageId: string }[] = [];
    try {
      return await work((name) => {
        const image = this.require(name);
        const hold = { imageId: image.id };
        holds.push(hold);
        this.#holds.add(hold);
        return image;
      });
    } finally {
      for (const hold of holds) this.#holds.delete(hold);
      this.collectUnused();
    }
  }

  /** RemoveImage by a name or the id: with all its names; idempotent (api.proto). */
  remove(name: string): void {
    const image = this.#find(name);
    if (image === undefined) return;
    this.store.images.put({ ...image, names: [], repoDigests: [], removed: true });
    this.collectUnused();
  }

  /** Deletes the files of removed images that no container needs any more. */
  collectUnused(): void {
    const used = new Set([
      ...this.store.containers.all().flatMap((
        { imageId, volumeImageIds = [] },
      ) => [imageId, ...volumeImageIds]),
      ...[...this.#holds].map(({ imageId }) => imageId),
    ]);
    for (const image of this.store.images.all()) {
      if (!image.removed || used.has(image.id)) continue;
      this.store.images.delete(image.id);
      try {
        if (image.sif !== undefined) Deno.removeSync(image.sif.path);
      } catch (error) {
        ignoreMissing(error);
      }
    }
  }

  /** ImageFsInfo, with what containers have written into layers of this node, if they have any. */
  fsInfo(layers?: MeasuredDirectory): Promise<ImageFsInfoResponse> {
    return poolFsInfo(this.directory, this.clock.now(), layers);
  }

  #find(name: string): ImageRecord | undefined {
    return findImage(this.store.images.all(), name);
  }
}

function isVolumeFile(source: ImageSource): source is VolumeImage {
  return source.kind === "local-image" || source.kind === "local-def-file";
}

function isInRegistry(source: ImageSource): source is RegistrySource {
  return source.kind === "docker" || source.kind === "oras";
}

function ignoreMissing(error: unknown): void {
  if (!(error instanceof Deno.errors.NotFound)) throw error;
}
