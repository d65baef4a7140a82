/** The trouble of one job, which neither holds up nor ends another. */
import { assertEquals } from "@std/assert";
import { CriError } from "../../base/error.ts";
import { exit, START, watchTest } from "./test_watched.ts";

/** What is copied for one job before the others get their turn. */
const TURN_BYTES = 2 * 1024 * 1024;

const UNREADABLE: readonly CriError[] = [
  new CriError("PERMISSION_DENIED", "not yours"),
  new CriError("RESOURCE_EXHAUSTED", "longer than 16384 bytes"),
  new CriError("FAILED_PRECONDITION", "failure"),
];

for (const error of UNREADABLE) {
  watchTest(
    `lets squeue decide when reading one job's files fails with ${error.code}`,
    async (watched) => {
      watched.mount("c1", watched.records.path("message"));
      await watched.add("c2", "102");
      watched.failReading("/c1/", error);
      await watched.queue("RUNNING|N/A|10|n1|None");
      await watched.queue(undefined, "102");
      for (let i = 0; i < 3; i++) await watched.pass();
      assertEquals([watched.state()?.phase, watched.end("c2")], ["running", [255, "JobLost"]]);
      assertEquals(watched.watch.staleSince, undefined);
      await watched.queue(undefined);
      for (let i = 0; i < 3; i++) await watched.pass();
      assertEquals(watched.end(), [255, "JobLost"]);
      const words = `c1: the files of job 101 cannot be read: ${error.message}`;
      assertEquals(watched.notes.filter((note) => note === words).length, 1);
    },
  );
}

for (const code of ["UNAVAILABLE", "UNKNOWN", "UNAUTHENTICATED", "DEADLINE_EXCEEDED"] as const) {
  watchTest(`ends no job when reading its files fails with ${code}`, async (watched) => {
    watched.failReading("/c1/", new CriError(code, "no answer"));
    await watched.queue(undefined);
    for (let i = 0; i < 3; i++) await watched.pass();
    assertEquals(watched.state()?.phase, "running");
    assertEquals(watched.watch.staleSince?.error, "no answer");
  });
}

watchTest(
  "tells the end of one job while the long output of another is copied",
  async (watched) => {
    await watched.add("c2", "102");
    const turns = 3;
    const line = `${"x".repeat(64 * 1024 - 1)}\n`;
    await watched.write("stdout", line.repeat(turns * TURN_BYTES / line.length - 1));
    for (const id of ["c1", "c2"]) {
      await watched.write("status/start", START, id);
      await watched.write("status/exit", exit(0), id);
    }
    const ends: unknown[] = [];
    for (let turn = 0; turn < turns; turn++) {
      await watched.pass();
      ends.push([watched.end(), watched.end("c2")].map((end) => end?.[0]));
    }
    assertEquals(ends, [[undefined, 0], [undefined, 0], [0, 0]]);
    const { size } = await Deno.stat(watched.records.path("c1.log"));
    assertEquals(size > turns * TURN_BYTES - line.length, true);
  },
);

watchTest(
  "follows the job that claimed the container, and cancels the other that Slurm accepted",
  async (watched) => {
    await watched.queue("RUNNING|N/A|10|n1|None", "102");
    await watched.write("status/start", START.replace("101", "102"));
    await watched.pass();
    assertEquals(watched.workload().jobId, "102");
    assertEquals(await watched.cluster.job("101"), "CANCELLED|N/A|10||None");
    assertEquals(await watched.cluster.calls("scancel", " 102"), 0);
    await watched.pass();
    assertEquals(watched.state()?.phase, "running");
    await watched.write("status/exit", exit(6));
    await watched.pass();
    assertEquals(watched.end(), [6, "Error"]);
  },
);

watchTest("cancels the other job when the first try to do so was lost", async (watched) => {
  await watched.queue("RUNNING|N/A|10|n1|None", "102");
  await watched.write("status/start", START.replace("101", "102"));
  watched.cluster.breaks.push({
    words: "scancel",
    error: new CriError("UNAVAILABLE", "lost"),
    when: "before",
  });
  await watched.pass();
  assertEquals([watched.workload().jobId, await watched.cluster.calls("scancel")], ["101", 0]);
  await watched.pass();
  assertEquals(watched.workload().jobId, "102");
  assertEquals(await watched.cluster.job("101"), "CANCELLED|N/A|10||None");
});

watchTest("tells an end later when it cannot be recorded now", async (watched) => {
  const { containers } = watched.records.store;
  const update = containers.update.bind(containers);
  let failures = 0;
  containers.update = (id, change) => {
    const record = containers.get(id);
    if (failures < 2 && record !== undefined && change(record).state.phase === "exited") {
      failures++;
      throw new Error("database or disk is full");
    }
    return update(id, change);
  };
  await watched.write("status/exit", exit(125, "error=no apptainer\n"));
  await watched.pass();
  await watched.pass();
  assertEquals([watched.state()?.phase, watched.ended, failures], ["running", [], 2]);
  await watched.pass();
  assertEquals([watched.end(), watched.ended], [[125, "StartError"], ["c1"]]);
  assertEquals(watched.notes.filter((note) => note.includes("no apptainer")).length, 1);
});

watchTest("copies the termination message before the end is told", async (watched) => {
  const path = watched.records.path("message");
  watched.mount("c1", path);
  await watched.write("termination-log", "it is done");
  await watched.write("status/exit", exit(0));
  let message: string | undefined;
  watched.records.store.containers.onChange((change) => {
    if (change.kind === "put" && change.record.state.phase === "exited") {
      message = Deno.readTextFileSync(path);
    }
  });
  await watched.pass();
  assertEquals([watched.end(), message], [[0, "Completed"], "it is done"]);
});

watchTest("ends a job whose termination message cannot be written", async (watched) => {
  watched.mount("c1", watched.records.path("no/such/message"));
  await watched.write("termination-log", "it is done");
  await watched.write("status/exit", exit(2));
  await watched.pass();
  assertEquals(watched.end(), [2, "Error"]);
});
