import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import type { SlurmSettings } from "../../config/slurm_settings.ts";
import { pruneStoredImages, readStoredImages } from "./stored_images.ts";
import { TestCluster } from "./test_cluster.ts";

const DAY_MS = 24 * 3600 * 1000;
const [RUNNING, OLD, NEW] = ["a", "b", "c"].map((digit) => `${digit.repeat(64)}.sif`) as [
  string,
  string,
  string,
];

async function withImages(
  settings: Partial<SlurmSettings>,
  place: string,
  use: (cluster: TestCluster, settings: SlurmSettings, names: () => string[]) => Promise<void>,
): Promise<void> {
  await using cluster = await TestCluster.create();
  const images = join(cluster.home, place);
  await Deno.mkdir(images, { recursive: true });
  const tenDaysAgo = new Date(Date.now() - 10 * DAY_MS);
  for (const name of [RUNNING, OLD, NEW, "other.txt", `${OLD}.x.part`]) {
    await Deno.writeTextFile(join(images, name), "sif");
    if (name !== NEW) await Deno.utime(join(images, name), tenDaysAgo, tenDaysAgo);
  }
  const container = join(cluster.home, "it's work/sandbox/container");
  await Deno.mkdir(container, { recursive: true });
  await Deno.writeTextFile(
    join(container, "job.sh"),
    `#!/bin/bash\nmulticri_image='${images}/${RUNNING}'\n`,
  );
  await use(
    cluster,
    { mountPath: "it's work", imageRemoteMount: undefined, ...settings },
    () => [...Deno.readDirSync(images)].map(({ name }) => name).toSorted(),
  );
}

for (
  const [settings, place] of [
    [{}, "it's work/.images"],
    [{ imageRemoteMount: "images" }, "images"],
  ] as const
) {
  Deno.test(`readStoredImages() tells which image a container uses in ${place}`, () =>
    withImages(settings, place, async (cluster, settings) => {
      const images = await readStoredImages(cluster.session, settings);
      assertEquals(images.map(({ name, inUse, sizeBytes }) => [name, inUse, sizeBytes]), [
        [RUNNING, true, 3],
        [OLD, false, 3],
        [NEW, false, 3],
      ]);
      const ages = images.map(({ usedAtMs }) => Math.round((Date.now() - usedAtMs) / DAY_MS));
      assertEquals(ages, [10, 10, 0]);
    }));

  Deno.test(`pruneStoredImages() removes what is old and unused in ${place}, and nothing else`, () =>
    withImages(settings, place, async (cluster, settings, names) => {
      const prune = async (days: number) =>
        (await pruneStoredImages(cluster.session, settings, days)).map(({ name }) => name);
      assertEquals(await prune(11), []);
      assertEquals([await prune(9), await prune(9)], [[OLD], []]);
      assertEquals(names(), [RUNNING, `${OLD}.x.part`, NEW, "other.txt"].toSorted());
    }));
}

Deno.test("readStoredImages() finds nothing when there is no directory", async () => {
  await using cluster = await TestCluster.create();
  const settings = { mountPath: "work", imageRemoteMount: undefined };
  assertEquals(await readStoredImages(cluster.session, settings), []);
});
