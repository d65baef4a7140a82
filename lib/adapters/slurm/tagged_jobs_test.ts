import { assertEquals } from "@std/assert";
import { dirname, join } from "@std/path";
import { ENDED, endTaggedJob, parseTaggedJobs, readTaggedJobs } from "./tagged_jobs.ts";
import { placeTest } from "./test_place.ts";

const TAG = "multicri id=c1 pod=ns/p uid=u-1 container=main attempt=0";
const FOUND = { containerId: "c1", pod: "ns/p", podUid: "u-1", containerName: "main" };

Deno.test("parseTaggedJobs() tells each container once, as the queue has it", () => {
  const text = [
    `17|RUNNING|/h/s1/c1|${TAG}`,
    "18|RUNNING|/h|another's comment | with bars",
    `19|RUNNING|/elsewhere|${TAG.replace("c1", "c9")}`,
    "--",
    `17|/h/s1/c1|"${TAG}"`,
    `|/h/s1/c2|"${TAG.replace("c1", "c2")}"`,
    "20|/h/s1/c3|",
    "",
  ].join("\n");
  assertEquals(parseTaggedJobs(text), [
    { ...FOUND, jobId: "17", state: "RUNNING", directory: "/h/s1/c1" },
    { ...FOUND, containerId: "c2", jobId: "", state: ENDED, directory: "/h/s1/c2" },
  ]);
});

Deno.test("parseTaggedJobs() tells a pod's job, and that its containers have its state", () => {
  const text = [
    `17|RUNNING|/h/s1|${TAG.replace("id=c1", "id=s1").replace("=main", "=*")}`,
    "--",
    `17|/h/s1/c1|"${TAG}"`,
    `16|/h/s1/c2|"${TAG.replace("c1", "c2")}"`,
  ].join("\n");
  assertEquals(parseTaggedJobs(text), [
    {
      ...FOUND,
      containerId: "s1",
      containerName: "*",
      jobId: "17",
      state: "RUNNING",
      directory: "/h/s1",
    },
    { ...FOUND, jobId: "17", state: "RUNNING", directory: "/h/s1/c1" },
    { ...FOUND, containerId: "c2", jobId: "16", state: ENDED, directory: "/h/s1/c2" },
  ]);
});

placeTest("endTaggedJob() removes the files of all containers of a pod's job", async (place) => {
  const { cluster, directory } = place;
  await place.start();
  await cluster.fake(`jobs/${place.jobId}/line`, undefined);
  await Deno.mkdir(join(dirname(directory), "volumes/data"), { recursive: true });
  const jobs = await readTaggedJobs(cluster.session, { mountPath: "multi-cri" });
  const pods = { ...FOUND, containerId: "s1", containerName: "*", jobId: "17", state: ENDED };
  await endTaggedJob(cluster.session, { ...pods, directory: dirname(directory) }, jobs);
  assertEquals(await cluster.stat(dirname(directory)), undefined);
});

placeTest("endTaggedJob() removes what readTaggedJobs() found, but results", async (place) => {
  const { cluster } = place;
  await place.start();
  await cluster.fake(`jobs/${place.jobId}/line`, undefined);
  const result = join(place.directory, "results/kept");
  await Deno.writeTextFile(result, "");
  const jobs = await readTaggedJobs(cluster.session, { mountPath: "multi-cri" });
  assertEquals(jobs.map(({ containerId, state }) => [containerId, state]), [["c1", ENDED]]);
  for (const job of jobs) await endTaggedJob(cluster.session, job, jobs);
  assertEquals(await place.files(), ["results"]);
  assertEquals((await Deno.stat(result)).isFile, true);
  assertEquals(await readTaggedJobs(cluster.session, { mountPath: "multi-cri" }), []);
});
