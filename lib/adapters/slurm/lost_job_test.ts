/** A job that may exist is never given up: it is adopted or ended, whatever breaks in between. */
import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { CriError } from "../../base/error.ts";
import { NEVER, type Place, placeTest } from "./test_place.ts";
import { workloadOf } from "./workload.ts";

/** The first pause of a submission that is repeated. */
const FIRST_PAUSE_MS = 1_000;
const CANCELLED = "CANCELLED|N/A|10||None";

const LOST = new CriError("UNKNOWN", "the connection was lost");
const SUBMISSION = { words: "sbatch --parsable", error: LOST };

/** Submits, and loses the connection while sbatch works: `release` lets sbatch go on. */
async function startAndLose(place: Place): Promise<{ release: () => Promise<void> }> {
  const { cluster } = place;
  await cluster.fake("sbatch.waits", "");
  cluster.breaks.push({ ...SUBMISSION, when: "during" });
  place.start().catch(() => {});
  await Promise.all([place.clock.sleeping(FIRST_PAUSE_MS), cluster.called("sbatch")]);
  return {
    release: async () => {
      await cluster.fake("sbatch.waits");
      await cluster.abandoned();
    },
  };
}

placeTest(
  "StopContainer ends the job of a submission that is still under way when its connection broke",
  async (place) => {
    const { cluster } = place;
    await cluster.program("flock", `\nexec /usr/bin/flock "$@"`);
    const { release } = await startAndLose(place);
    let stopEnded = false;
    const stopped = place.adapter.stopContainer("c1", 0, NEVER).finally(() => stopEnded = true);
    const stopEnds = stopped.catch(() => {});
    // The stop waits for the submission's lock, or has ended without.
    await Promise.race([cluster.called("flock", 2), stopEnds]);
    assertEquals(stopEnded, false);
    await release();
    await place.look(stopped);
    assertEquals([place.end, await cluster.job("101")], [[137, "Cancelled"], CANCELLED]);
  },
);

placeTest(
  "StopContainer keeps a job from running that comes later when the file system has no locks",
  async (place) => {
    const { cluster } = place;
    await cluster.program("flock", "\nexit 71");
    await cluster.program("apptainer", "");
    const { release } = await startAndLose(place);
    await place.adapter.stopContainer("c1", 0, NEVER);
    assertEquals(place.end, [137, "Cancelled"]);
    await release();
    assertEquals(await cluster.job("101"), "PENDING|N/A|10||Priority");
    const { code } = await cluster.runJob("101", place.directory);
    assertEquals([code, await cluster.calls("apptainer")], [0, 0]);
    await place.adapter.removeContainer(place.record, NEVER);
    assertEquals([await cluster.job("101"), await place.files()], [CANCELLED, []]);
  },
);

placeTest(
  "StartContainer ends a job that came to light when another submission was refused",
  async (place) => {
    const { cluster } = place;
    await cluster.program("flock", "\nexit 71");
    await cluster.fake(
      "on_sbatch",
      `
if [ "$(grep -c '^sbatch ' "$FAKE/calls")" -gt 1 ]; then
  rm -f "$FAKE/sbatch.waits"
  while [ ! -e "$FAKE/jobs/101/line" ]; do /bin/sleep 0.01; done
  echo 'sbatch: error: invalid account' >&2
  exit 1
fi`,
    );
    await startAndLose(place);
    place.clock.advance(FIRST_PAUSE_MS);
    await place.until(({ state }) => state.phase === "exited");
    assertEquals([place.end, await cluster.job("101")], [[128, "StartError"], CANCELLED]);
  },
);

placeTest("a job runs its program when nothing was stopped", async (place) => {
  await place.cluster.program("apptainer", "\nexit 5");
  await place.start();
  await place.cluster.runJob("101", place.directory);
  assertEquals(await place.cluster.calls("apptainer", "exec"), 1);
  await place.look(place.until(({ state }) => state.phase === "exited"));
  assertEquals(place.end, [5, "Error"]);
});

/** What may go wrong for good on other occasions; here a job may exist. */
const FAILURES: readonly CriError[] = [
  new CriError("UNAUTHENTICATED", "the cluster refuses the login"),
  new CriError("FAILED_PRECONDITION", "the host key is another one"),
  new CriError("PERMISSION_DENIED", "no permission for the host"),
  new CriError("NOT_FOUND", "the cluster is no longer named"),
  new CriError("INVALID_ARGUMENT", "the key cannot be used"),
  new CriError("INTERNAL", "a mistake of ours"),
];

for (const error of FAILURES) {
  placeTest(
    `StartContainer adopts the job of a lost submission when ${error.code} comes next`,
    async (place) => {
      place.cluster.breaks.push({ ...SUBMISSION, when: "after" });
      const started = place.start();
      await place.clock.sleeping(FIRST_PAUSE_MS);
      place.cluster.offline = error;
      for (const pauseMs of [FIRST_PAUSE_MS, 2 * FIRST_PAUSE_MS]) {
        place.clock.advance(pauseMs);
        await place.clock.sleeping(2 * pauseMs);
      }
      assertEquals(place.record.state.phase, "starting");
      place.cluster.offline = undefined;
      place.clock.advance(4 * FIRST_PAUSE_MS);
      await started;
      assertEquals([place.record.state.phase, place.jobId], ["running", "101"]);
      assertEquals(await place.cluster.calls("sbatch"), 1);
      assertStringIncludes(await place.notes(), `${error.message}; trying again`);
    },
  );

  placeTest(
    `recover() adopts the job of the last process when ${error.code} comes first`,
    async (place) => {
      await crashWhileSubmitting(place);
      place.cluster.offline = error;
      await place.restart();
      await place.clock.sleeping(FIRST_PAUSE_MS);
      assertEquals(place.record.state.phase, "running");
      place.cluster.offline = undefined;
      place.clock.advance(FIRST_PAUSE_MS);
      await place.until((record) => workloadOf(record).jobId !== undefined);
      assertEquals([place.record.state.phase, place.jobId], ["running", "101"]);
      assertEquals(await place.cluster.calls("sbatch"), 1);
    },
  );
}

/** As a process leaves it that ended when the job was accepted and its id not yet known. */
async function crashWhileSubmitting(place: Place): Promise<void> {
  const { store } = place.records;
  const secrets = await store.secrets.read("c1");
  await place.start();
  await store.secrets.write("c1", secrets);
  store.containers.update("c1", (record) => {
    const { jobId: _jobId, ...workload } = workloadOf(record);
    return { ...record, state: { phase: "starting" }, workload };
  });
}

const UNFIT: Record<string, (place: Place) => void> = {
  "the administrator allows other clusters only": (place) => {
    place.clusters = { ...place.clusters, allowed: [{ host: "other", port: 22 }] };
  },
  "the image is gone": ({ records, record }) => records.store.images.delete(record.imageId),
  "the sandbox is gone": ({ records, record }) => records.store.sandboxes.delete(record.sandboxId),
};

for (const [what, spoil] of Object.entries(UNFIT)) {
  placeTest(`recover() adopts the job of the last process when ${what}`, async (place) => {
    await crashWhileSubmitting(place);
    spoil(place);
    await place.restart();
    await place.until(({ state, workload }) =>
      state.phase === "exited" || (workload as { jobId?: string }).jobId !== undefined
    );
    assertEquals([place.record.state.phase, place.jobId], ["running", "101"]);
  });
}

placeTest(
  "recover() ends a container that was stopped before its job was submitted",
  async (place) => {
    place.cluster.breaks.push({ ...SUBMISSION, when: "before" });
    const started = assertRejects(() => place.start(), CriError, "was cancelled");
    await place.clock.sleeping(FIRST_PAUSE_MS);
    place.cluster.breaks.push({ words: "ln -s -n stopped", error: LOST, when: "after" });
    await assertRejects(() => place.adapter.stopContainer("c1", 0, NEVER), CriError, "call again");
    await started;
    await place.restart();
    await place.until(({ state }) => state.phase === "exited");
    assertEquals([place.end, await place.cluster.calls("sbatch")], [[128, "StartError"], 0]);
  },
);

placeTest(
  "removeContainer() ends a job that nobody knew of before it removes its files",
  async (place) => {
    await crashWhileSubmitting(place);
    place.records.store.containers.update("c1", (record) => ({
      ...record,
      state: {
        phase: "exited",
        startedAtMs: undefined,
        finishedAtMs: 0,
        exitCode: 128,
        reason: "StartError",
        message: "",
      },
    }));
    await Deno.remove(`${place.directory}/jobid`);
    await place.adapter.removeContainer(place.record, NEVER);
    assertEquals([await place.cluster.job("101"), await place.files()], [CANCELLED, []]);
  },
);

placeTest(
  "of two jobs that Slurm accepted, the one with the claim is followed and the other cancelled",
  async (place) => {
    const { cluster, directory } = place;
    await cluster.program("apptainer", "\nexit 7");
    await place.start();
    await cluster.run(`cd '${directory}' && sbatch --parsable job.sh`);
    await cluster.fake("jobs/102/line", "RUNNING|N/A|10|n1|None");
    await cluster.runJob("102", directory);
    await cluster.runJob("101", directory);
    assertEquals(await cluster.calls("apptainer", "exec"), 1);
    await place.look(place.until(({ state }) => state.phase === "exited"));
    assertEquals([place.end, place.jobId], [[7, "Error"], "102"]);
    assertEquals(await cluster.job("101"), CANCELLED);
  },
);

placeTest("a start and a stop at the same time leave nothing running", async (place) => {
  const started = assertRejects(() => place.start(), CriError, "was cancelled");
  const stopped = place.adapter.stopContainer("c1", 0, NEVER);
  await started;
  await place.look(stopped);
  assertEquals(place.end, [137, "Cancelled"]);
  assertEquals(await place.cluster.calls("sbatch"), 0);
});

placeTest(
  "a start that a stop aborted is running while nobody can tell whether there is a job",
  async (place) => {
    place.cluster.breaks.push({ ...SUBMISSION, when: "after" });
    const started = assertRejects(() => place.start(), CriError, "was cancelled");
    await place.clock.sleeping(FIRST_PAUSE_MS);
    place.cluster.offline = new CriError("UNAVAILABLE", "no route");
    const error = await assertRejects(
      () => place.adapter.stopContainer("c1", 0, NEVER),
      CriError,
      "no route",
    );
    await started;
    assertEquals([error.code, place.record.state.phase], ["UNAVAILABLE", "running"]);
    place.cluster.offline = undefined;
    await place.look(place.adapter.stopContainer("c1", 0, NEVER));
    assertEquals([place.end, await place.cluster.job("101")], [[137, "Cancelled"], CANCELLED]);
  },
);
