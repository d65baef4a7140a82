import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { CriError } from "../../base/error.ts";
import { ContainerConfig } from "../../cri/api.generated.ts";
import type { ImageRecord } from "../../store/records.ts";
import { imageRecord, sandboxRecord } from "../../store/test_store.ts";
import { LOOK_INTERVAL_MS } from "./look_turns.ts";
import { NEVER, type Place, placeTest } from "./test_place.ts";
import { workloadOf } from "./workload.ts";

/** Longer than StartContainer waits. */
const LONG_MS = 100_000;
/** The first pause of a submission that is repeated. */
const FIRST_PAUSE_MS = 1_000;

const SUBMISSION = {
  words: "sbatch --parsable",
  error: new CriError("UNKNOWN", "the connection was lost"),
};
const UNAVAILABLE = new CriError("UNAVAILABLE", "no route");

function test(name: string, use: (place: Place) => Promise<void>): void {
  placeTest(`SlurmAdapter.${name}`, use);
}

test("prepareContainer() refuses to build an image with the node's login", async (place) => {
  const login = { host: "login", port: 22, user: "u", password: "secret" };
  const named = new Map([["hpc", { login, namespaces: undefined, prerun: false }]]);
  place.clusters = { allowed: [], named, defaultName: "hpc" };
  await place.restart();
  const prepare = (volumeFile: NonNullable<ImageRecord["volumeFile"]>) =>
    place.adapter.prepareContainer({
      sandboxId: "pod",
      id: "c2",
      sandbox: { ...sandboxRecord().config, logDirectory: place.records.directory },
      config: ContainerConfig.fromPartial({ logPath: "x.log", command: ["x"] }),
      image: imageRecord({ volumeFile }),
      volumeImages: new Map(),
    });
  const error = await assertRejects(
    () => prepare({ kind: "local-def-file", path: "x.def" }),
    CriError,
    "prerun: true",
  );
  assertEquals(error.code, "PERMISSION_DENIED");
  await prepare({ kind: "local-image", path: "x.sif" });
});

test("startContainer() returns when the job is submitted, and keeps only the login", async (place) => {
  await place.start();
  assertEquals([place.record.state.phase, place.jobId], ["running", "101"]);
  const notes = await place.notes();
  assertStringIncludes(notes, "job 101 submitted to u@login:22, results in ");
  const secrets = JSON.stringify(await place.records.store.secrets.read("c1"));
  assertEquals([secrets.includes("secret"), secrets.includes("envs")], [true, false]);
  const record = JSON.stringify(place.record, (_, v) => typeof v === "bigint" ? `${v}` : v);
  for (const secret of ["secret", "token"]) {
    assertEquals([record.includes(secret), notes.includes(secret)], [false, false]);
  }
});

test("startContainer() throws UNAVAILABLE when nothing was handed over, and can be repeated", async (place) => {
  place.cluster.offline = UNAVAILABLE;
  const error = await assertRejects(() => place.start(), CriError, "no route");
  assertEquals([error.code, place.record.state.phase], ["UNAVAILABLE", "created"]);
  place.cluster.offline = undefined;
  await place.start();
  assertEquals(place.jobId, "101");
});

test("startContainer() repeats a submission until its outcome is known", async (place) => {
  place.cluster.breaks.push({ ...SUBMISSION, when: "before" }, { ...SUBMISSION, when: "after" });
  const started = place.start();
  await place.clock.sleeping(FIRST_PAUSE_MS);
  place.clock.advance(FIRST_PAUSE_MS);
  await place.clock.sleeping(2 * FIRST_PAUSE_MS);
  place.clock.advance(2 * FIRST_PAUSE_MS);
  await started;
  assertEquals([place.record.state.phase, place.jobId], ["running", "101"]);
  assertEquals(await place.cluster.calls("sbatch"), 1);
  assertStringIncludes(await place.notes(), "the connection was lost; trying again");
});

test("startContainer() goes on behind when it takes too long", async (place) => {
  place.cluster.breaks.push({ ...SUBMISSION, when: "before" });
  const started = place.start();
  await place.clock.sleeping(FIRST_PAUSE_MS);
  place.cluster.offline = UNAVAILABLE;
  place.clock.advance(LONG_MS);
  await started;
  assertEquals([place.record.state.phase, place.jobId], ["running", undefined]);
  await place.clock.sleeping(2 * FIRST_PAUSE_MS);
  place.cluster.offline = undefined;
  place.clock.advance(2 * FIRST_PAUSE_MS);
  await place.until((record) => workloadOf(record).jobId !== undefined);
  assertEquals(place.record.state.phase, "running");
});

test("startContainer() ends the container and leaves nothing when Slurm refuses the job", async (place) => {
  await place.cluster.fake("sbatch.fails", "sbatch: error: invalid partition specified: none\n");
  const error = await assertRejects(
    () => place.start(),
    CriError,
    "refused the job: invalid partition",
  );
  assertEquals(error.code, "INVALID_ARGUMENT");
  const { state } = place.record;
  assertEquals(
    state.phase === "exited" && [state.exitCode, state.reason, state.startedAtMs],
    [128, "StartError", undefined],
  );
  assertStringIncludes(await place.notes(), "the job could not be started: ");
  assertEquals(await place.files(), []);
});

test("startContainer() ends nothing when its call is cancelled", async (place) => {
  place.cluster.breaks.push({ ...SUBMISSION, when: "before" });
  const abort = new AbortController();
  const started = place.adapter.startContainer("c1", abort.signal);
  await place.clock.sleeping(FIRST_PAUSE_MS);
  abort.abort(new Error("the client went away"));
  await started;
  assertEquals(place.record.state.phase, "running");
  place.clock.advance(FIRST_PAUSE_MS);
  await place.until((record) => workloadOf(record).jobId !== undefined);
});

test("stopContainer() cancels a pending job", async (place) => {
  await place.start();
  const stopped = place.adapter.stopContainer("c1", 0, NEVER);
  await place.look(stopped);
  const { state } = place.record;
  assertEquals(state.phase === "exited" && [state.exitCode, state.reason], [137, "Cancelled"]);
  await place.adapter.stopContainer("c1", 0, NEVER);
  assertEquals(await place.cluster.calls("scancel"), 2);
});

test("stopContainer() ends a start that has not submitted anything", async (place) => {
  place.cluster.breaks.push({ ...SUBMISSION, when: "before" });
  const started = assertRejects(() => place.start(), CriError, "was cancelled");
  await place.clock.sleeping(FIRST_PAUSE_MS);
  await place.adapter.stopContainer("c1", 0, NEVER);
  await started;
  const { state } = place.record;
  assertEquals(state.phase === "exited" && [state.exitCode, state.reason], [137, "Cancelled"]);
  assertEquals(await place.cluster.calls("sbatch"), 0);
});

test("startContainer() finds its job when the submission was killed before it answered", async (place) => {
  await place.cluster.fake("sbatch.dies", "");
  const started = place.start();
  await place.clock.sleeping(FIRST_PAUSE_MS);
  await place.cluster.fake("sbatch.dies");
  place.clock.advance(FIRST_PAUSE_MS);
  await started;
  assertEquals([place.record.state.phase, place.jobId], ["running", "101"]);
  assertEquals(await place.cluster.calls("sbatch"), 1);
});

test("stopContainer() finds and ends the job of a submission whose answer was lost", async (place) => {
  place.cluster.breaks.push({ ...SUBMISSION, when: "after" });
  const started = assertRejects(() => place.start(), CriError, "was cancelled");
  await place.clock.sleeping(FIRST_PAUSE_MS);
  const stopped = place.adapter.stopContainer("c1", 0, NEVER);
  await started;
  await place.look(stopped);
  const { state } = place.record;
  assertEquals(state.phase === "exited" && [state.exitCode, state.reason], [137, "Cancelled"]);
  const queue = await Deno.readTextFile(join(place.cluster.root, "fake/jobs/101/line"));
  assertStringIncludes(queue, "CANCELLED");
});

test("stopContainer() throws UNAVAILABLE while the cluster is away, and ends nothing", async (place) => {
  await place.start();
  place.cluster.offline = UNAVAILABLE;
  const error = await assertRejects(
    () => place.adapter.stopContainer("c1", 0, NEVER),
    CriError,
    "Cannot see the end of the container c1",
  );
  assertEquals([error.code, place.record.state.phase], ["UNAVAILABLE", "running"]);
});

test("stopContainer() does nothing to a container that was not started", async (place) => {
  await place.adapter.stopContainer("c1", 0, NEVER);
  assertEquals(place.record.state.phase, "created");
});

test("removeContainer() removes files and secrets, and may be repeated", async (place) => {
  await place.cluster.fake("sbatch.fails", "sbatch: error: invalid account\n");
  await assertRejects(() => place.start(), CriError);
  await place.adapter.removeContainer(place.record, NEVER);
  assertEquals(await place.records.store.secrets.ids(), []);
  assertEquals(await place.files(), []);
});

test("removeContainer() needs no cluster when the container was never started", async (place) => {
  place.cluster.offline = UNAVAILABLE;
  await place.adapter.removeContainer(place.record, NEVER);
  assertEquals(await place.records.store.secrets.ids(), []);
});

test("recover() finds the job of a start that the last process did not finish", async (place) => {
  await place.start();
  place.records.store.containers.update("c1", (record) => {
    const { jobId: _jobId, ...workload } = workloadOf(record);
    return { ...record, state: { phase: "starting" }, workload };
  });
  await place.records.store.secrets.write("c1", {
    cluster: {
      kind: "own",
      login: { host: "login", port: 22, user: "u", password: "secret" },
    },
    envs: [["CLUSTER_HOST", btoa("login")], ["CLUSTER_USERNAME", btoa("u")], [
      "CLUSTER_PASSWORD",
      btoa("secret"),
    ]],
  });
  await place.restart();
  await place.until((record) => workloadOf(record).jobId !== undefined);
  assertEquals([place.record.state.phase, place.jobId], ["running", "101"]);
  assertEquals(await place.cluster.calls("sbatch"), 1);
});

test("recover() goes on watching a job that was submitted", async (place) => {
  await place.start();
  await place.restart();
  assertEquals(place.adapter.conditions().map(({ status }) => status), [true]);
  assertEquals([place.record.state.phase, place.jobId], ["running", "101"]);
  assertEquals(await place.cluster.calls("sbatch"), 1);
});

test("recover() removes secrets that no container owns", async (place) => {
  await place.records.store.secrets.write("gone", {});
  await place.adapter.recover();
  assertEquals(await place.records.store.secrets.ids(), ["c1"]);
});

test("conditions() and describeContainer() tell that a cluster cannot be reached", async (place) => {
  await place.start();
  await place.clock.sleeping(LOOK_INTERVAL_MS);
  assertEquals(place.adapter.conditions().map(({ status }) => status), [true]);
  place.cluster.offline = UNAVAILABLE;
  place.clock.advance(LOOK_INTERVAL_MS);
  await place.clock.sleeping(1_000);
  assertEquals(place.adapter.conditions(), [{
    type: "ClusterReachable/u@login:22",
    status: false,
    reason: "LastKnownStatesStand",
    message: "no route",
  }]);
  assertStringIncludes(
    JSON.stringify(place.adapter.describeContainer(place.record)),
    '"error":"no route"',
  );
});

test("conditions() says false of a cluster that was never reached", async (place) => {
  place.cluster.state = { kind: "idle" };
  place.cluster.breaks.push({ ...SUBMISSION, when: "before" });
  const started = place.start();
  await place.clock.sleeping(FIRST_PAUSE_MS);
  assertEquals(place.adapter.conditions().map(({ status, message }) => [status, message]), [
    [false, "not connected yet"],
  ]);
  place.cluster.state = { kind: "ready", sinceMs: 0 };
  assertEquals(place.adapter.conditions().map(({ status }) => status), [true]);
  place.clock.advance(FIRST_PAUSE_MS);
  await started;
});

test("recover() removes the environment when the job has it", async (place) => {
  const { secrets } = place.records.store;
  const before = await secrets.read("c1");
  assertStringIncludes(JSON.stringify(before), btoa("token"));
  await place.start();
  // As a process leaves it that ended between the job's id and the secrets.
  await secrets.write("c1", before);
  await place.restart();
  const after = JSON.stringify(await secrets.read("c1"));
  assertEquals([after.includes("envs"), after.includes(btoa("token"))], [false, false]);
  assertStringIncludes(after, '"kind":"own"');
});

test("stopContainer() carries what scancel says when the job does not end", async (place) => {
  await place.start();
  await place.cluster.fake(
    "scancel.says",
    "scancel: error: Kill job error on job id 101: Access/permission denied\n",
  );
  const stopped = place.adapter.stopContainer("c1", 0, NEVER);
  const refused = assertRejects(() => place.look(stopped), CriError, "Access/permission denied");
  assertStringIncludes((await refused).message, "the job 101 has not ended yet; Slurm says: ");
  assertEquals([(await refused).code, place.record.state.phase], ["UNAVAILABLE", "running"]);
  assertEquals((await refused).message.includes("\n"), false);
});

test("startContainer() names the variables that env(1) sets, and no value", async (place) => {
  await place.create({ "db.password": "hidden", PEM: "hid\r\nden", PLAIN: "hidden" });
  await place.start();
  const notes = (await place.notes()).split("\n").filter((line) => line.includes("env(1)"));
  assertEquals(notes.length, 1);
  assertStringIncludes(notes[0] ?? "", "starts: db.password, PEM");
  assertEquals(/hid|PLAIN/.test(await place.notes()), false);
});
