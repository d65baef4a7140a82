import { assertEquals, assertStringIncludes } from "@std/assert";
import { CriError } from "../../base/error.ts";
import { NEVER, placeTest } from "./test_place.ts";

placeTest("abandonContainer() ends a container whose cluster cannot be reached", async (place) => {
  await place.start();
  place.cluster.offline = new CriError("UNAVAILABLE", "no route");
  await place.adapter.abandonContainer("c1");
  assertEquals(place.end, [255, "Abandoned"]);
  assertStringIncludes(
    place.record.state.phase === "exited" ? place.record.state.message : "",
    "gave up the job 101 on u@login:22",
  );
  assertStringIncludes(await place.notes(), "an administrator gave up the job 101");
  await place.adapter.removeContainer(place.record, NEVER);
  assertEquals(await place.records.store.secrets.ids(), []);
  // The pod's next attempt ends the job if its cluster is back by then.
  assertEquals(place.records.store.jobTags.get("c1")?.directory, place.directory);
});

placeTest("abandonContainer() ends a start that waits for its cluster", async (place) => {
  place.cluster.breaks.push({
    words: "sbatch --parsable",
    when: "after",
    error: new CriError("UNKNOWN", "lost"),
  });
  const starting = place.start().catch((error) => error);
  await place.cluster.called("sbatch");
  place.cluster.offline = new CriError("UNAVAILABLE", "no route");
  await place.adapter.abandonContainer("c1");
  await starting;
  assertEquals(place.end, [255, "Abandoned"]);
});

placeTest("abandonContainer() ends a container whose login is gone", async (place) => {
  await place.start();
  await place.adapter.close();
  await place.records.store.secrets.delete("c1");
  await place.adapter.abandonContainer("c1");
  assertEquals(place.end, [255, "Abandoned"]);
  await place.adapter.removeContainer(place.record, NEVER);
});
