import { assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { CriError } from "../base/error.ts";
import { createLogger } from "../base/log.ts";
import { TestClock } from "../base/test_clock.ts";
import { PullImageRequest } from "../cri/api.generated.ts";
import type { Store } from "../store/store.ts";
import { containerRecord, imageRecord, TestStore } from "../store/test_store.ts";
import { ImageService } from "./image_service.ts";
import type { Puller } from "./puller.ts";
import type { RegistryAccess, RegistryImage } from "./skopeo.ts";

const NEVER = new AbortController().signal;
const digestOf = (letter: string) => `sha256:${letter.repeat(64)}`;
const [A, B] = [digestOf("a"), digestOf("b")];

/** Digests of the manifests of A and B. */
const [MANIFEST_A, MANIFEST_B] = [digestOf("1"), digestOf("2")];

/** A registry and a builder in memory. */
class TestPuller {
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

  async build(workDir: string): Promise<unknown> {
    this.builds++;
    await this.gate;
    if (this.failure !== undefined) throw this.failure;
    const sifPath = join(workDir, "image.sif");
    await Deno.writeTextFile(sifPath, "sif");
    return { sifPath, sizeBytes: 3, sha256: "00", hasShell: false };
  }
}

interface Pool {
  images: ImageService;
  puller: TestPuller;
  store: Store;
  directory: string;
  pull: (name: string) => Promise<string>;
  /** Files of the pool, relative to it. */
  files: () => string[];
}

function test(name: string, use: (pool: Pool) => Promise<void>): void {
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

const [SIF_A, SIF_B] = [A, B].map((id) => `sif/${id.slice("sha256:".length)}.sif`);

test("pull() returns the id by which the image is then known", async ({ images, pull, files }) => {
  assertEquals(await pull("perl"), A);
  assertEquals(files(), [SIF_A]);
  const { image, info } = images.status({ image: "perl" } as never, true);
  assertEquals([image?.id, image?.size, image?.uid?.value], [A, 3n, 7n]);
  assertEquals([image?.repoTags, image?.repoDigests], [["perl:latest"], [`perl@${MANIFEST_A}`]]);
  assertEquals(JSON.parse(info["info"] ?? "").sif.sizeBytes, 3);
  const { id, hasShell } = images.require("docker.io/library/perl:latest");
  assertEquals([id, hasShell], [A, false]);
});

test("pull() builds one image for several names", async ({ images, puller, pull, files }) => {
  const names = ["perl", "perl:5", `perl@${MANIFEST_A}`, "multicri/docker-repository.perl"];
  for (const name of names) assertEquals(await pull(name), A);
  assertEquals([puller.builds, files()], [1, [SIF_A]]);
  const [image, ...rest] = images.list(undefined);
  assertEquals(rest, []);
  assertEquals(image?.repoTags, [
    "perl:latest",
    "perl:5",
    "multicri/docker-repository.perl:latest",
  ]);
});

test("pull() shares the build of one name pulled twice at a time", async ({ puller, pull }) => {
  assertEquals(await Promise.all([pull("perl"), pull("perl")]), [A, A]);
  assertEquals(puller.builds, 1);
});

test("pull() keeps both names of an image pulled by two at a time", async ({ images, puller, pull }) => {
  const gate = Promise.withResolvers<void>();
  puller.gate = gate.promise;
  const both = Promise.all([pull("perl"), pull("perl:5")]);
  while (puller.resolves < 2) await new Promise((resolve) => setTimeout(resolve, 1));
  gate.resolve();
  assertEquals(await both, [A, A]);
  assertEquals([images.require("perl").id, images.require("perl:5").id], [A, A]);
  assertEquals(puller.builds, 1);
});

test("pull() moves a tag to the image it names now", async ({ images, puller, pull, files }) => {
  await pull("perl");
  puller.tags["library/perl:latest"] = MANIFEST_B;
  assertEquals(await pull("perl"), B);
  assertEquals(images.require("perl").id, B);
  assertEquals(images.status({ image: A } as never, false).image?.repoTags, []);
  assertEquals(files().toSorted(), [SIF_A, SIF_B]);
});

test("pull() leaves nothing when it fails, and can be repeated", async ({ images, puller, pull, files }) => {
  puller.failure = new CriError("INTERNAL", "no space");
  await assertRejects(() => pull("perl"), CriError, "no space");
  assertEquals([files(), images.list(undefined)], [[], []]);
  await assertRejects(() => pull("missing"), CriError, "no such image");
  assertEquals(files(), []);
  puller.failure = undefined;
  assertEquals(await pull("perl"), A);
});

test("pull() forwards credentials where they belong", async ({ puller, pull }) => {
  await pull("perl");
  await assertRejects(() => pull("multicri/docker-repository.r.example/x"), CriError);
  assertEquals(puller.auths, [{ auth: "YTpi" }, undefined]);
});

for (
  const [name, code] of [
    ["", "INVALID_ARGUMENT"],
    ["Perl", "INVALID_ARGUMENT"],
    ["multicri/dcoker-repository.perl", "INVALID_ARGUMENT"],
    ["multicri/local-image.../x.img", "INVALID_ARGUMENT"],
  ] as const
) {
  test(`pull() refuses '${name}' with a sentence`, async ({ pull, puller }) => {
    assertEquals((await assertRejects(() => pull(name), CriError)).code, code);
    assertEquals(puller.resolves, 0);
  });
}

for (const name of ["perl", "perl:5", A, A.slice("sha256:".length), A.slice(7, 19)]) {
  test(`remove() removes the image with all its names when asked for '${name}'`, async (pool) => {
    const { images, pull, files } = pool;
    await pull("perl");
    await pull("perl:5");
    await pull("other");
    images.remove(name);
    images.remove(name);
    assertEquals([images.list(undefined).map(({ id }) => id), files()], [[B], [SIF_B]]);
    assertEquals(images.status({ image: name } as never, false).image, undefined);
  });
}

test("remove() keeps the file while a container uses it", async ({ images, store, pull, files }) => {
  await pull("perl");
  store.containers.put(containerRecord({ imageId: A }));
  images.remove("perl");
  assertEquals([images.list(undefined), files()], [[], [SIF_A]]);
  assertThrows(() => images.require("perl"), CriError, "pull it first");
  assertEquals(store.images.get(A)?.sif?.sizeBytes, 3);
  store.containers.delete("c1");
  images.collectUnused();
  assertEquals([store.images.all(), files()], [[], []]);
});

test("pull() takes a removed image up again while its file is still there", async (pool) => {
  const { images, store, puller, pull, files } = pool;
  await pull("perl");
  store.containers.put(containerRecord({ imageId: A }));
  images.remove("perl");
  assertEquals(await pull("perl"), A);
  assertEquals([puller.builds, images.require("perl").removed], [1, false]);
  store.containers.delete("c1");
  images.collectUnused();
  assertEquals(files(), [SIF_A]);
});

test("recover() removes what a crash left", async ({ images, store, directory, pull, files }) => {
  await pull("perl");
  await pull("other");
  await Deno.mkdir(join(directory, "work/tmp1"));
  await Deno.writeTextFile(join(directory, "work/tmp1/auth.json"), "{}");
  await Deno.writeTextFile(join(directory, "sif/unknown.sif"), "");
  await Deno.remove(join(directory, SIF_B ?? ""));
  await images.recover();
  assertEquals([files(), store.images.all().map(({ id }) => id)], [[SIF_A], [A]]);
});

test("recover() finishes a removal", async ({ images, store, pull, files }) => {
  await pull("perl");
  store.images.update(A, (image) => ({ ...image, names: [], removed: true }));
  await images.recover();
  assertEquals([files(), store.images.all()], [[], []]);
});

test("status() finds no image and no error for a name that was not pulled", async ({ images }) => {
  for (const image of ["perl", "r.example:5000/x:1", A, digestOf("c").slice(7)]) {
    const { image: found } = await Promise.resolve(images.status({ image } as never, true));
    assertEquals(found, undefined);
    assertEquals(images.list(image), []);
    images.remove(image);
  }
});

test("status() refuses a malformed name", async ({ images }) => {
  for (const image of ["", "Perl", "a b"]) {
    await assertRejects(
      () => Promise.try(() => images.status({ image } as never, false)),
      CriError,
    );
  }
});

test("fsInfo() counts what lies in the pool", async ({ images, directory, pull }) => {
  await pull("perl");
  const { imageFilesystems, containerFilesystems } = await images.fsInfo();
  const [filesystem] = imageFilesystems;
  assertEquals(filesystem?.fsId?.mountpoint, directory);
  // sif/, work/ and the file.
  assertEquals([filesystem?.usedBytes?.value, filesystem?.inodesUsed?.value], [3n, 3n]);
  assertEquals(containerFilesystems, imageFilesystems);
  assertMatch(String(filesystem?.timestamp), /^\d{19}$/);
});
