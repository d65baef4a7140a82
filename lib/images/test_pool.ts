/** An image pool over a registry in memory, for the tests of this directory. */
import { join } from "@std/path";
import { CriError } from "../base/error.ts";
import { createLogger } from "../base/log.ts";
import { TestClock } from "../base/test_clock.ts";
import { PullImageRequest } from "../cri/api.generated.ts";
import type { Store } from "../store/store.ts";
import { imageRecord, TestStore } from "../store/test_store.ts";
import { ImageService } from "./image_service.ts";
import type { Puller } from "./puller.ts";
import type { RegistryAccess, RegistryImage } from "./skopeo.ts";

const NEVER = new AbortController().signal;
export const digestOf = (letter: string): string => `sha256:${letter.repeat(64)}`;
export const [A, B] = [digestOf("a"), digestOf("b")];

/** Digests of the manifests of A and B. */
export const [MANIFEST_A, MANIFEST_B] = [digestOf("1"), digestOf("2")];

/** A registry and a builder in memory. */
export class TestPuller {
  /** Repository and tag to the manifest's digest. */
  readonly tags: Record<string, string> = {};
  readonly auths: unknown[] = [];
  resolves = 0;
  builds = 0;
  /** Builds wait for this. */
  gate: Promise<void> = Promise.resolve();
  failure: CriError | undefined;

  async resolve(image: RegistryImage, { auth }: RegistryAccess): Promise<string> {
    this.resolves++;
    this.auths.push(auth);
    const digest = image.digest ?? this.tags[`${image.repository}:${image.tag}`];
    if (digest === undefined) throw new CriError("NOT_FOUND", "the registry has no such image");
    return await Promise.resolve(digest);
  }

  download(_image: RegistryImage, digest: string): Promise<unknown> {
    const config = { ...imageRecord().config, user: "7:8" };
    return Promise.resolve({ id: digest === MANIFEST_A ? A : B, config });
  }

  describe(image: RegistryImage, digest: string): Promise<unknown> {
    return this.download(image, digest);
  }

  mayNeedCredentials({ auth }: RegistryAccess): boolean {
    return auth !== undefined;
  }

  downloadPushedSif(
    _image: RegistryImage,
    _digest: string,
    access: RegistryAccess,
  ): Promise<unknown> {
    return this.downloadSif(undefined, access.workDir);
  }

  async downloadSif(_source: unknown, workDir: string): Promise<unknown> {
    this.builds++;
    const sifPath = join(workDir, "image.sif");
    await Deno.writeTextFile(sifPath, SIF);
    const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(SIF));
    const sha256 = new Uint8Array(digest).toHex();
    const { config } = imageRecord();
    return { id: `sha256:${sha256}`, sifPath, sizeBytes: 7, sha256, config, hasShell: true };
  }

  async build(workDir: string): Promise<unknown> {
    this.builds++;
    await this.gate;
    if (this.failure !== undefined) throw this.failure;
    const sifPath = join(workDir, "image.sif");
    await Deno.writeTextFile(sifPath, "sif");
    return { sifPath, sizeBytes: 3, sha256: "00", hasShell: false };
  }
}

/** What `downloadPushedSif` and `downloadSif` bring. */
const SIF = "the sif";

export interface Pool {
  images: ImageService;
  puller: TestPuller;
  store: Store;
  directory: string;
  pull: (name: string) => Promise<string>;
  /** Files of the pool, relative to it. */
  files: () => string[];
}

/** A test with an empty pool. */
export function testPool(
  name: string,
  use: (pool: Pool) => Promise<void>,
  { buildInCluster = false } = {},
): void {
  Deno.test(`ImageService.${name}`, async () => {
    await using records = await TestStore.open();
    const { store } = records;
    const directory = records.path("pool");
    const puller = new TestPuller();
    Object.assign(puller.tags, {
      "library/perl:latest": MANIFEST_A,
      "library/perl:5": MANIFEST_A,
      "library/other:latest": MANIFEST_B,
    });
    const images = new ImageService(
      directory,
      store,
      puller as unknown as Puller,
      new TestClock(),
      createLogger({ threshold: "error", write: () => {} }),
      buildInCluster,
    );
    await images.recover();
    await use({
      images,
      puller,
      store,
      directory,
      pull: (image) =>
        images.pull(
          PullImageRequest.fromPartial({ image: { image }, auth: { auth: "YTpi" } }),
          NEVER,
        ),
      files: () =>
        ["sif", "work"].flatMap((part) =>
          [...Deno.readDirSync(join(directory, part))].map((entry) => `${part}/${entry.name}`)
        ),
    });
  });
}

/** The files of A and B. */
export const [SIF_A, SIF_B] = [A, B].map((id) => `sif/${id.slice("sha256:".length)}.sif`);
