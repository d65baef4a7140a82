import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { dirname, join } from "@std/path";
import { CriError } from "../../base/error.ts";
import { NEVER, type Place, placeTest } from "./test_place.ts";
import { namesIn } from "./test_scripts.ts";
import { TestVolumes } from "./test_volumes.ts";
import { workloadOf } from "./workload.ts";

/** A started container with a ConfigMap, an emptyDir and the volume at /multicri. */
async function startWithVolumes(place: Place): Promise<TestVolumes> {
  const volumes = await TestVolumes.create(place.records.path("kubelet"));
  const hostPath = await volumes.write("configmap", "config", { a: "one" });
  const empty = await volumes.empty("scratch");
  await place.create({}, [
    { containerPath: "/config", hostPath, readonly: true },
    { containerPath: "/data", hostPath: empty },
    { containerPath: "/multicri", hostPath: `${volumes.pod}/volumes/kubernetes.io~nfs/nfs-vol1` },
  ]);
  await place.start();
  return volumes;
}

placeTest(
  "startContainer() brings copies with the job, and makes what is shared",
  async (place) => {
    await startWithVolumes(place);
    const { directory } = place;
    assertEquals(await Deno.readTextFile(join(directory, "volumes/0/a")), "one");
    assertEquals(namesIn(join(dirname(directory), "volumes")), ["scratch"]);
    assertEquals(((await Deno.stat(join(directory, "volumes"))).mode ?? 0) & 0o777, 0o700);
    const results = join(place.cluster.home, "multi-cri/nfs-vol1/s1/c1");
    assertEquals(workloadOf(place.record).results, results);
    assertEquals(namesIn(results), []);
    const notes = await place.notes();
    assertStringIncludes(notes, `results in ${results}`);
    assertStringIncludes(notes, "nfs-vol1 was not there and was made");
    const script = await Deno.readTextFile(join(directory, "job.sh"));
    for (
      const bind of [
        `'type=bind,source=${directory}/volumes/0,destination=/config,ro'`,
        `'type=bind,source=${dirname(directory)}/volumes/scratch,destination=/data'`,
        `'type=bind,source=${place.cluster.home}/multi-cri/nfs-vol1,destination=/multicri'`,
      ]
    ) assertStringIncludes(script, bind);
    const env = await Deno.readTextFile(join(directory, "env"));
    assertStringIncludes(env, "MULTICRI_RESULTS_DIR='/multicri/s1/c1'");
    // One script for the volume's directory, one for the job with all of its files.
    assertEquals(await place.cluster.calls("sbatch"), 1);
  },
);

placeTest("startContainer() runs as many commands for 200 files as for one", async (place) => {
  const { cluster } = place;
  const volumes = await TestVolumes.create(place.records.path("kubelet"));
  const run = cluster.run.bind(cluster);
  let commands = 0;
  cluster.run = (script, options) => {
    commands++;
    return run(script, options);
  };
  // The first start also brings the image.
  await place.start();
  const counts: number[] = [];
  for (const files of [1, 200]) {
    await place.look(place.adapter.stopContainer("c1", 0, NEVER));
    await place.adapter.removeContainer(place.record, NEVER);
    const names = Array.from({ length: files }, (_, index) => [`file-${index}`, "x"]);
    const hostPath = await volumes.write("configmap", `config-${files}`, Object.fromEntries(names));
    await place.create({}, [{ containerPath: "/config", hostPath }]);
    commands = 0;
    await place.start();
    counts.push(commands);
    assertEquals(namesIn(join(place.directory, "volumes/0/..data"))?.length, files);
  }
  assertEquals(counts[0], counts[1]);
});

placeTest(
  "pods.remove() removes what is shared, which outlives the containers",
  async (place) => {
    await startWithVolumes(place);
    const { directory } = place;
    await place.look(place.adapter.stopContainer("c1", 0, NEVER));
    await place.adapter.removeContainer(place.record, NEVER);
    place.records.store.containers.delete("c1");
    assertEquals(namesIn(dirname(directory)), ["volumes"]);
    assertEquals(namesIn(join(place.cluster.home, "multi-cri/nfs-vol1")), []);
    // The next process knows where they are, and how to log in there.
    await place.restart();
    assertEquals(await place.records.store.secrets.ids(), ["s1"]);
    place.cluster.offline = new CriError("UNAVAILABLE", "no route");
    await assertRejects(() => place.adapter.pods.remove("s1"), CriError, "no route");
    place.cluster.offline = undefined;
    await place.adapter.pods.remove("s1");
    assertEquals(namesIn(dirname(directory)), undefined);
    assertEquals(await place.records.store.secrets.ids(), []);
  },
);

placeTest("pods.remove() reaches for no cluster that was given up", async (place) => {
  await startWithVolumes(place);
  place.cluster.offline = new CriError("UNAVAILABLE", "no route");
  await place.adapter.abandonContainer("c1");
  await place.adapter.removeContainer(place.record, NEVER);
  await place.adapter.pods.remove("s1");
  assertEquals(await place.records.store.secrets.ids(), []);
});

placeTest("recover() goes on bringing new versions", async (place) => {
  const volumes = await startWithVolumes(place);
  await place.adapter.close();
  await volumes.write("configmap", "config", { a: "two" });
  await place.restart();
  const file = join(place.directory, "volumes/0/a");
  while (await Deno.readTextFile(file) !== "two") {
    place.clock.advance(10_000);
    await new Promise((done) => setTimeout(done, 5));
  }
});

placeTest("prepareContainer() refuses a volume that cannot be read", async (place) => {
  const hostPath = place.records.path("kubelet/pods/u/volumes/kubernetes.io~secret/none");
  await assertRejects(
    () => place.create({}, [{ containerPath: "/x", hostPath }]),
    CriError,
    "which the kubelet must have written",
  );
});
