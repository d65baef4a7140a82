import { join } from "@std/path";
import { Semaphore } from "async-mutex";
import type { Clock } from "../base/clock.ts";
import { CriError } from "../base/error.ts";
import { KeyedMutex } from "../base/keyed_mutex.ts";
import type { Logger } from "../base/log.ts";
import {
  Image,
  ImageFsInfoResponse,
  type ImageSpec,
  ImageStatusResponse,
  type PullImageRequest,
} from "../cri/api.generated.ts";
import type { ImageRecord } from "../store/records.ts";
import type { Store } from "../store/store.ts";
import { type ImageSource, parseImageName } from "../../wasm/core.ts";
import { credentialsFor } from "./credentials.ts";
import type { Puller, RegistryImage } from "./puller.ts";

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

  constructor(
    readonly directory: string,
    readonly store: Store,
    readonly puller: Puller,
    readonly clock: Clock,
    readonly log: Logger,
  ) {
    this.#sifDir = join(directory, "sif");
    this.#workDir = join(directory, "work");
  }

  /** Removes what a crash left: unfinished pulls, files without a record, records without a file. */
  async recover(): Promise<void> {
    await Deno.remove(this.#workDir, { recursive: true }).catch(ignoreMissing);
    await Deno.mkdir(this.#workDir, { recursive: true, mode: 0o700 });
    await Deno.mkdir(this.#sifDir, { recursive: true, mode: 0o700 });
    const files = new Set<string>();
    for await (const entry of Deno.readDir(this.#sifDir)) files.add(join(this.#sifDir, entry.name));
    for (const image of this.store.images.all()) {
      if (!files.delete(image.sif.path)) {
        this.log.warning("An image's file is gone from the pool; pull it again", {
          image: image.id,
        });
        this.store.images.delete(image.id);
      }
    }
    for (const path of files) await Deno.remove(path, { recursive: true });
    this.collectUnused();
  }

  /**
   * PullImage: returns the image's id.
   * @throws CriError INVALID_ARGUMENT for a malformed name, NOT_FOUND, UNAUTHENTICATED, UNAVAILABLE.
   */
  async pull(request: PullImageRequest, signal: AbortSignal): Promise<string> {
    const asked = request.image?.image ?? "";
    const source = parseImageName(asked);
    const image = registryImage(asked, source);
    const auth = credentialsFor(image.registry, source.prefixed, request.auth);
    return await this.#names.runExclusive(
      source.canonical,
      () =>
        this.#pulls.runExclusive(async () => {
          const workDir = await Deno.makeTempDir({ dir: this.#workDir });
          try {
            const digest = await this.puller.resolve(image, auth, workDir, signal);
            const repoDigest = `${withoutTag(asked)}@${digest}`;
            const known = this.store.images.all().find((i) => i.repoDigests.includes(repoDigest));
            if (known !== undefined) return this.#name(known.id, asked, source, repoDigest);

            this.log.info("Pulling an image", { image: asked, digest });
            const { id, config } = await this.puller.download(image, digest, auth, workDir, signal);
            // Two names of one image may come at the same time.
            return await this.#builds.runExclusive(id, async () => {
              if (this.store.images.get(id) === undefined) {
                const { sifPath, ...built } = await this.puller.build(workDir, signal);
                const path = join(this.#sifDir, `${id.slice("sha256:".length)}.sif`);
                await Deno.rename(sifPath, path);
                this.store.images.put({
                  id,
                  names: [],
                  repoDigests: [],
                  sif: { path, sizeBytes: built.sizeBytes, sha256: built.sha256 },
                  config,
                  hasShell: built.hasShell,
                  pulledAtMs: this.clock.now(),
                  removed: false,
                });
              }
              this.log.info("Pulled an image", { image: asked, id });
              return this.#name(id, asked, source, repoDigest);
            });
          } finally {
            await Deno.remove(workDir, { recursive: true });
          }
        }),
    );
  }

  /** ImageStatus; no image in the answer means that it is not there (api.proto). */
  status(spec: ImageSpec | undefined, verbose: boolean): ImageStatusResponse {
    const image = this.#find(spec?.image ?? "");
    return ImageStatusResponse.fromPartial({
      image: image === undefined ? undefined : listed(image),
      info: image !== undefined && verbose
        ? { info: JSON.stringify({ sif: image.sif, config: image.config }, null, 2) }
        : {},
    });
  }

  /** ListImages, all or the one with that name or id. */
  list(name: string | undefined): Image[] {
    if (name) {
      const image = this.#find(name);
      return image === undefined ? [] : [listed(image)];
    }
    return this.store.images.all().filter((image) => !image.removed).map(listed);
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

  /** RemoveImage by a name or the id: with all its names; idempotent (api.proto). */
  remove(name: string): void {
    const image = this.#find(name);
    if (image === undefined) return;
    this.store.images.put({ ...image, names: [], repoDigests: [], removed: true });
    this.collectUnused();
  }

  /** Deletes the files of removed images that no container needs any more. */
  collectUnused(): void {
    const used = new Set(this.store.containers.all().map((container) => container.imageId));
    for (const image of this.store.images.all()) {
      if (!image.removed || used.has(image.id)) continue;
      this.store.images.delete(image.id);
      try {
        Deno.removeSync(image.sif.path);
      } catch (error) {
        ignoreMissing(error);
      }
    }
  }

  /** ImageFsInfo: what lies in the pool, counted now. */
  async fsInfo(): Promise<ImageFsInfoResponse> {
    const usage = { bytes: 0n, inodes: 0n };
    await measure(this.directory, usage);
    const filesystem = {
      timestamp: BigInt(this.clock.now()) * 1_000_000n,
      fsId: { mountpoint: this.directory },
      usedBytes: { value: usage.bytes },
      inodesUsed: { value: usage.inodes },
    };
    return ImageFsInfoResponse.fromPartial({
      imageFilesystems: [filesystem],
      containerFilesystems: [filesystem],
    });
  }

  /** Gives the image `id` a name, and takes it from the image that had it: a tag moves. */
  #name(id: string, asked: string, source: ImageSource, repoDigest: string): string {
    const { canonical } = source;
    for (const other of this.store.images.all()) {
      if (other.id === id) continue;
      const names = other.names.filter((name) => name.canonical !== canonical);
      if (names.length !== other.names.length) this.store.images.put({ ...other, names });
    }
    this.store.images.update(id, (image) => ({
      ...image,
      removed: false,
      names: image.names.some((name) => name.asked === asked)
        ? image.names
        : [...image.names, { asked, canonical }],
      repoDigests: [...new Set([...image.repoDigests, repoDigest])],
    }));
    return id;
  }

  #find(name: string): ImageRecord | undefined {
    if (name === "") {
      throw new CriError("INVALID_ARGUMENT", "Cannot find an image: its name is empty.");
    }
    const images = this.store.images.all().filter((image) => !image.removed);
    const id = name.startsWith("sha256:") ? name : `sha256:${name}`;
    const byId = /^sha256:[0-9a-f]{12,64}$/.test(id)
      ? images.filter((image) => image.id.startsWith(id))
      : [];
    if (byId.length === 1) return byId[0];
    // A whole id is no name: when it is not here, it is gone (the kubelet removes images by id).
    if (/^sha256:[0-9a-f]{64}$/.test(id)) return undefined;
    const byDigest = images.find((image) => image.repoDigests.includes(name));
    if (byDigest !== undefined) return byDigest;
    const { canonical } = parseImageName(name);
    return images.find((image) => image.names.some((known) => known.canonical === canonical));
  }
}

function registryImage(asked: string, source: ImageSource): RegistryImage {
  if (source.kind === "docker") return source;
  throw new CriError(
    "UNIMPLEMENTED",
    `Cannot pull '${asked}': images of the kind ${source.kind} are not available in this version of ` +
      "multicri; use docker-repository.NAME.",
  );
}

function listed(image: ImageRecord): Image {
  const [user = "", uid] = [
    image.config.user.split(":")[0],
    /^\d+(?=:|$)/.exec(image.config.user)?.[0],
  ];
  return Image.fromPartial({
    id: image.id,
    repoTags: image.names.filter(({ asked }) => !asked.includes("@")).map(({ asked }) =>
      withTag(asked)
    ),
    repoDigests: [...image.repoDigests],
    size: BigInt(image.sif.sizeBytes),
    ...(uid === undefined ? { username: user } : { uid: { value: BigInt(uid) } }),
    spec: { image: image.names[0]?.asked ?? image.id },
  });
}

/** The name without `:tag` and `@digest`; a port's colon is followed by a slash. */
function withoutTag(name: string): string {
  return name.replace(/@.*$/s, "").replace(/:[^/:]*$/s, "");
}

/** api.proto's repo_tags carry a tag always, as crictl and the kubelet expect. */
function withTag(name: string): string {
  return /:[^/:]+$/s.test(name) ? name : `${name}:latest`;
}

async function measure(path: string, usage: { bytes: bigint; inodes: bigint }): Promise<void> {
  try {
    for await (const entry of Deno.readDir(path)) {
      const child = join(path, entry.name);
      usage.inodes++;
      if (entry.isDirectory) await measure(child, usage);
      else usage.bytes += BigInt((await Deno.lstat(child)).size);
    }
  } catch (error) {
    // A pull in progress removes its files while they are counted.
    ignoreMissing(error);
  }
}

function ignoreMissing(error: unknown): void {
  if (!(error instanceof Deno.errors.NotFound)) throw error;
}
