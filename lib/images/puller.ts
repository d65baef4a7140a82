import { createHash } from "node:crypto";
import { join } from "@std/path";
import { CriError } from "../base/error.ts";
import type { Executor } from "../executors/executor.ts";
import type { OciImageConfig } from "../store/records.ts";
import type { HubImage, LibraryImage, WebImage } from "../../wasm/core.ts";
import { blobPath, parseImageConfig, readLayoutImage, sifLayerDigest } from "./oci_layout.ts";
import { hasShell } from "./shell_scan.ts";
import { readSifConfig } from "./sif.ts";
import { type RegistryAccess, type RegistryImage, Skopeo } from "./skopeo.ts";
import { diskIsFull, DOWNLOAD_TIMEOUT_MS, fullDiskError, lastWords } from "./tool_error.ts";

/** The library that names without a host mean; Apptainer itself has none by default. */
const DEFAULT_LIBRARY = "https://library.sylabs.io";

/** The programs a pull needs, by the names they have in PATH. */
export interface ImageTools {
  apptainer: string;
  skopeo: string;
}

/** A SIF that was made and not yet put into the pool. */
export interface BuiltImage {
  id: string;
  config: OciImageConfig;
  sifPath: string;
  sizeBytes: number;
  sha256: string;
  hasShell: boolean;
}

/** Where a SIF is downloaded from that does not lie in a registry. */
export type SifSource = HubImage | LibraryImage | WebImage;

/**
 * Gets images: of registries by skopeo, which Apptainer makes a SIF of where they are none yet, and SIFs from
 * elsewhere by Apptainer.
 */
export class Puller {
  readonly #registries: Skopeo;

  constructor(
    readonly executor: Executor,
    readonly tools: ImageTools,
    nodeAuthFile?: string,
  ) {
    this.#registries = new Skopeo(executor, tools.skopeo, nodeAuthFile);
  }

  /** See `Skopeo.resolve`. */
  async resolve(image: RegistryImage, access: RegistryAccess): Promise<string> {
    return await this.#registries.resolve(image, access);
  }

  /** Downloads the image with this digest into the work directory and reads what it is. */
  async download(
    image: RegistryImage,
    digest: string,
    access: RegistryAccess,
  ): Promise<{ id: string; config: OciImageConfig }> {
    const layout = join(access.workDir, "layout");
    await this.#registries.copy(image, digest, layout, access);
    const { configDigest, config } = await readLayoutImage(layout);
    return { id: configDigest, config };
  }

  /** See `Skopeo.mayNeedCredentials`. */
  mayNeedCredentials(access: RegistryAccess): boolean {
    return this.#registries.mayNeedCredentials(access);
  }

  /** As `download`, but nothing of its files: reads what the image with this digest is. */
  async describe(
    image: RegistryImage,
    digest: string,
    access: RegistryAccess,
  ): Promise<{ id: string; config: OciImageConfig }> {
    const bytes = await this.#registries.configuration(image, digest, access);
    return {
      id: `sha256:${createHash("sha256").update(bytes).digest("hex")}`,
      config: parseImageConfig(new TextDecoder().decode(bytes)),
    };
  }

  /**
   * Builds the SIF from what `download` left in `workDir`.
   * @throws CriError INTERNAL with Apptainer's own last words, RESOURCE_EXHAUSTED when the disk is full.
   */
  async build(workDir: string, signal: AbortSignal): Promise<Omit<BuiltImage, "id" | "config">> {
    const sifPath = join(workDir, "image.sif");
    const layout = join(workDir, "layout");
    const result = await this.executor.run(
      [this.tools.apptainer, "--quiet", "build", sifPath, `oci:${layout}`],
      { env: workEnvironment(workDir), timeoutMs: DOWNLOAD_TIMEOUT_MS, signal },
    );
    if (result.code !== 0) {
      // mksquashfs says first what is wrong, Apptainer last that it was mksquashfs.
      if (diskIsFull(new TextDecoder().decode(result.stderr))) {
        throw fullDiskError("build the SIF");
      }
      throw new CriError("INTERNAL", `Cannot build the SIF: apptainer says: ${lastWords(result)}`);
    }
    const { layerDigests } = await readLayoutImage(layout);
    return {
      sifPath,
      sizeBytes: (await Deno.stat(sifPath)).size,
      sha256: await fileSha256(sifPath),
      hasShell: await hasShell(layout, layerDigests),
    };
  }

  /**
   * Downloads a SIF that somebody pushed to a registry (oras://).
   * @throws CriError as `download`, and FAILED_PRECONDITION when it is a container image.
   */
  async downloadPushedSif(
    image: RegistryImage,
    digest: string,
    access: RegistryAccess,
  ): Promise<BuiltImage> {
    const layout = join(access.workDir, "layout");
    await this.#registries.copy(image, digest, layout, access);
    return await this.#describe(blobPath(layout, await sifLayerDigest(layout)));
  }

  /**
   * Downloads a SIF from a web server, a library or Singularity Hub.
   * @throws CriError NOT_FOUND and UNAVAILABLE with Apptainer's words, FAILED_PRECONDITION when it is not what the name's digest
   * says, INVALID_ARGUMENT when it is no SIF, RESOURCE_EXHAUSTED when the disk is full.
   */
  async downloadSif(source: SifSource, workDir: string, signal: AbortSignal): Promise<BuiltImage> {
    const sifPath = join(workDir, "image.sif");
    const library = source.kind === "library" && source.registry === undefined
      ? ["--library", DEFAULT_LIBRARY]
      : [];
    const result = await this.executor.run(
      [
        this.tools.apptainer,
        "--quiet",
        "pull",
        "--disable-cache",
        ...library,
        sifPath,
        source.url,
      ],
      { env: workEnvironment(workDir), timeoutMs: DOWNLOAD_TIMEOUT_MS, signal },
    );
    if (result.code !== 0) {
      const words = lastWords(result);
      if (diskIsFull(words)) throw fullDiskError(`pull ${source.url}`);
      const hub = source.kind === "shub"
        ? " Singularity Hub was shut down in 2021 and only some of its images are kept; ask its owner for another " +
          "place of the image, such as docker-repository.NAME."
        : "";
      throw new CriError(
        /not found/i.test(words) ? "NOT_FOUND" : "UNAVAILABLE",
        `Cannot pull ${source.url}: apptainer says: ${words.replace(/\.$/, "")}.${hub}`,
      );
    }
    const image = await this.#describe(sifPath);
    if (source.kind === "https" && source.digest !== undefined && source.digest !== image.id) {
      throw new CriError(
        "FAILED_PRECONDITION",
        `Cannot use the image ${source.url}: its digest must be ${source.digest}, and is ${image.id}.`,
      );
    }
    return image;
  }

  /** What is known of a SIF without anything but itself; its id is its own digest. */
  async #describe(sifPath: string): Promise<BuiltImage> {
    const sha256 = await fileSha256(sifPath);
    return {
      id: `sha256:${sha256}`,
      config: await readSifConfig(this.executor, this.tools.apptainer, sifPath),
      sifPath,
      sizeBytes: (await Deno.stat(sifPath)).size,
      sha256,
      // Runscripts are shell scripts, so whoever makes a SIF puts a shell into it.
      hasShell: true,
    };
  }
}

/** Everything that Apptainer writes lies in the work directory, which goes whatever happens. */
function workEnvironment(workDir: string): Record<string, string> {
  return {
    APPTAINER_TMPDIR: workDir,
    APPTAINER_CACHEDIR: join(workDir, "cache"),
    TMPDIR: workDir,
  };
}

async function fileSha256(path: string): Promise<string> {
  const hash = createHash("sha256");
  using file = await Deno.open(path, { read: true });
  const buffer = new Uint8Array(1024 * 1024);
  for (;;) {
    const read = await file.read(buffer);
    if (read === null) return hash.digest("hex");
    hash.update(buffer.subarray(0, read));
  }
}
