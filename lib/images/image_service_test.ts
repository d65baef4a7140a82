import { assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { CriError } from "../base/error.ts";
import { containerRecord } from "../store/test_store.ts";
import {
  A,
  B,
  digestOf,
  MANIFEST_A,
  MANIFEST_B,
  SIF_A,
  SIF_B,
  testPool as test,
} from "./test_pool.ts";

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

for (
  const [use, ids] of Object.entries({
    "its image": { imageId: A },
    "a volume": { imageId: B, volumeImageIds: [A] },
  })
) {
  test(`remove() keeps the file while a container has it as ${use}`, async (pool) => {
    const { images, store, pull, files } = pool;
    await pull("perl");
    store.containers.put(containerRecord(ids));
    images.remove("perl");
    assertEquals([images.list(undefined), files()], [[], [SIF_A]]);
    assertThrows(() => images.require("perl"), CriError, "pull it first");
    assertEquals(store.images.get(A)?.sif?.sizeBytes, 3);
    store.containers.delete("c1");
    images.collectUnused();
    assertEquals([store.images.all(), files()], [[], []]);
  });
}

test("using() keeps the file of an image that is removed meanwhile, until it has ended", async (pool) => {
  const { images, store, pull, files } = pool;
  await pull("perl");
  const use = (store: () => void) =>
    images.using(async (require) => {
      const { id } = require("perl");
      images.remove("perl");
      assertEquals([id, files()], [A, [SIF_A]]);
      store();
      return await Promise.resolve(id);
    });
  assertEquals(await use(() => store.containers.put(containerRecord({ imageId: A }))), A);
  assertEquals(files(), [SIF_A]);
  store.containers.delete("c1");
  images.collectUnused();
  await pull("perl");
  assertEquals([await use(() => {}), files()], [A, []]);
  await assertRejects(() => use(() => {}), CriError, "pull it first");
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

test("fsInfo() tells what containers have written where that lies on this node", async ({ images, directory }) => {
  const layers = { directory: "/layers", measuredAtMs: 7, bytes: 8n, inodes: 9n };
  const { imageFilesystems, containerFilesystems } = await images.fsInfo(layers);
  assertEquals(imageFilesystems[0]?.fsId?.mountpoint, directory);
  assertEquals(containerFilesystems, [{
    timestamp: 7_000_000n,
    fsId: { mountpoint: "/layers" },
    usedBytes: { value: 8n },
    inodesUsed: { value: 9n },
  }]);
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
