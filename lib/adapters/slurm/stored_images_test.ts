import { assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { CriError } from "../../base/error.ts";
import type { SlurmSettings } from "../../config/slurm_settings.ts";
import { pruneStoredImages, readStoredImages } from "./stored_images.ts";
import { TestCluster } from "./test_cluster.ts";

const DAY_MS = 24 * 3600 * 1000;
const [RUNNING, OLD, NEW, QUEUED] = ["a", "b", "c", "d"].map((digit) =>
  `${digit.repeat(64)}.sif`
) as [string, string, string, string];

async function withImages(
  settings: Partial<SlurmSettings>,
  place: string,
  use: (cluster: TestCluster, settings: SlurmSettings, names: () => string[]) => Promise<void>,
): Promise<void> {
  await using cluster = await TestCluster.create();
  const images = join(cluster.home, place);
  await Deno.mkdir(images, { recursive: true });
  const tenDaysAgo = new Date(Date.now() - 10 * DAY_MS);
  for (const name of [RUNNING, OLD, NEW, QUEUED, "other.txt", `${OLD}.x.part`]) {
    await Deno.writeTextFile(join(images, name), "sif");
    if (name !== NEW) await Deno.utime(join(images, name), tenDaysAgo, tenDaysAgo);
  }
  const containers = { "it's work/sandbox/container": RUNNING, "other/sandbox/it's": QUEUED };
  for (const [directory, image] of Object.entries(containers)) {
    const container = join(cluster.home, directory);
    await Deno.mkdir(container, { recursive: true });
    await Deno.writeTextFile(
      join(container, "job.sh"),
      `#!/bin/bash\nmulticri_image='${images}/${image}'\n`,
    );
  }
  // Only the queue knows of the container of a server with another mount path.
  await cluster.program("squeue", `\ncat "$HOME/queue"`);
  const queue = `/no/such/directory\n${join(cluster.home, "other/sandbox/it's")}\n`;
  await Deno.writeTextFile(join(cluster.home, "queue"), queue);
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
        [QUEUED, true, 3],
      ]);
      const ages = images.map(({ usedAtMs }) => Math.round((Date.now() - usedAtMs) / DAY_MS));
      assertEquals(ages, [10, 10, 0, 10]);
    }));

  Deno.test(`pruneStoredImages() removes what is old and unused in ${place}, and nothing else`, () =>
    withImages(settings, place, async (cluster, settings, names) => {
      const prune = async (days: number) =>
        (await pruneStoredImages(cluster.session, settings, days)).map(({ name }) => name);
      assertEquals(await prune(11), []);
      assertEquals([await prune(9), await prune(9)], [[OLD], []]);
      assertEquals(names(), [RUNNING, `${OLD}.x.part`, NEW, QUEUED, "other.txt"].toSorted());
    }));

  Deno.test(`pruneStoredImages() removes nothing when Slurm does not tell its queue, in ${place}`, () =>
    withImages(settings, place, async (cluster, settings, names) => {
      const all = names();
      await cluster.program("squeue", "\necho 'no controller' >&2; exit 1");
      const prune = () => pruneStoredImages(cluster.session, settings, 9);
      const error = await assertRejects(prune, CriError, "no controller");
      assertEquals([error.code, names()], ["FAILED_PRECONDITION", all]);
    }));
}

Deno.test("readStoredImages() finds nothing when there is no directory", async () => {
  await using cluster = await TestCluster.create();
  const settings = { mountPath: "work", imageRemoteMount: undefined };
  assertEquals(await readStoredImages(cluster.session, settings), []);
});
