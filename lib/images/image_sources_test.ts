/** The image service with images of every source. */
import { assertEquals } from "@std/assert";
import { A, B, MANIFEST_A, SIF_B, testPool as test } from "./test_pool.ts";

test("pull() keeps a SIF once, whatever ways it comes", async ({ images, puller, pull, files }) => {
  puller.tags["team/tool:1"] = MANIFEST_A;
  const names = ["oras-repository.r.example/team/tool:1", "https-sif.h.example/tool.sif"];
  const [first, second] = [await pull(names[0] ?? ""), await pull(names[1] ?? "")];
  assertEquals([first === second, files().length], [true, 1]);
  const [image, ...rest] = images.list(undefined);
  assertEquals([image?.repoTags, rest], [[names[0], `${names[1]}:latest`], []]);
  assertEquals(image?.repoDigests, [`oras-repository.r.example/team/tool@${MANIFEST_A}`]);
  assertEquals(await pull(names[0] ?? ""), first);
  assertEquals(puller.builds, 2);
});

test("pull() tells a SIF in a registry and the image of the same digest apart", async ({ puller, pull }) => {
  puller.tags["library/tool:1"] = MANIFEST_A;
  const sif = await pull("oras-repository.tool:1");
  assertEquals([await pull("docker-repository.tool:1"), sif === A], [A, false]);
});

test("pull() shares the download of one image under two names", async ({ puller, pull }) => {
  await Promise.all([pull("perl"), pull("multicri/perl:5")]);
  assertEquals(puller.builds, 1);
});

for (
  const [name, path] of [
    ["local-image.perl.img", "perl.img"],
    ["multicri/local-def-file.build/perl.def:latest", "build/perl.def"],
  ] as const
) {
  test(`pull() records ${name} without a file, and removes it like any other`, async (pool) => {
    const { images, puller, store, pull, files } = pool;
    const id = await pull(name);
    assertEquals([await pull(name), puller.builds, files()], [id, 0, []]);
    await images.recover();
    const { image } = images.status({ image: name } as never, true);
    // The kubelet takes an image without size for an error.
    assertEquals([image?.id, (image?.size ?? 0n) > 0n], [id, true]);
    assertEquals(images.require(id).volumeFile?.path, path);
    assertEquals(images.require(name).config.entrypoint, ["/.singularity.d/runscript"]);
    images.remove(id);
    assertEquals(store.images.all(), []);
  });
}

test(
  "pull() leaves to the cluster what needs no credentials when it is told so",
  async ({ images, pull, files, puller }) => {
    assertEquals(await pull("multicri/docker-repository.r.example/library/perl"), A);
    assertEquals([files(), puller.builds], [[], 0]);
    const { clusterSource } = images.require(A);
    assertEquals(clusterSource, `docker://r.example/library/perl@${MANIFEST_A}`);
    // The test's credentials go to docker.io.
    assertEquals([await pull("other"), files()], [B, [SIF_B]]);
  },
  { buildInCluster: true },
);
