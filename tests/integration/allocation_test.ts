/** Pods whose containers share one job of the real lab. */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { Harness, type JobSpec } from "./harness.ts";
import { runPod, type TestPod } from "./pod_containers.ts";
import { mount, PodDirectory } from "./pod_directory.ts";

let harness: Harness;
Deno.test.beforeAll(async () => {
  harness = await Harness.start({ name: "allocation" });
});
Deno.test.afterAll(() => harness?.stop());

const sh = (script: string) => ["/bin/sh", "-c", script];
const SHARED = { annotations: { "multicri.io/allocation": "pod" } };
const SLEEPER: JobSpec = {
  command: sh("trap 'echo term; exit 9' TERM; echo ready; while :; do sleep 0.1; done"),
};

/** What Slurm says of the pod's jobs: all that it remembers. */
const jobsOf = async (pod: TestPod) =>
  (await harness.onCluster(
    `squeue --noheader --states=all --name=multicri-pod-${pod.id} --format='%A %T'`,
  )).split("\n").filter((line) => line !== "");

const jobOf = async (container: string) => (await harness.inspect(container)).info.slurm.jobId;

const lines = (container: string, wanted: string) =>
  harness.until(
    container,
    `at ${wanted}`,
    async () => (await harness.logs(container)).stdout.includes(wanted),
  );

Deno.test("containers of a pod share one job, its localhost and an emptyDir, and each has its own end", async () => {
  const files = new PodDirectory(harness.lab);
  const scratch = await files.empty("scratch");
  const mounts = [mount(scratch, "/data")];
  const resources = { cpu_period: 100_000, cpu_quota: 150_000, memory_limit_in_bytes: 300_000_000 };
  const pod = await runPod(harness, {
    uid: files.uid,
    ...SHARED,
    podFields: { linux: { resources } },
  });
  const init = await pod.run("init", { command: sh("echo served >/data/page"), mounts });
  assertEquals((await harness.exited(init)).status.exitCode, 0);
  const server = await pod.run("server", {
    command: sh(`httpd -p 127.0.0.1:18181 -h /data
      until [ -e /data/done ]; do sleep 0.1; done; exit 3`),
    mounts,
  });
  const client = await pod.run("client", {
    command: sh(`until wget -qO- http://127.0.0.1:18181/page 2>/dev/null; do sleep 0.1; done
      touch /data/done; exit 4`),
    mounts,
  });
  const sidecar = await pod.run("sidecar", SLEEPER);
  assertEquals((await harness.exited(server)).status.exitCode, 3);
  assertEquals((await harness.exited(client)).status.exitCode, 4);
  assertEquals((await harness.logs(client)).stdout, ["served"]);
  assertEquals((await harness.inspect(sidecar)).status.state, "CONTAINER_RUNNING");
  const [job = ""] = await jobsOf(pod);
  for (const container of [init, server, client, sidecar]) {
    assertEquals(`${await jobOf(container)} RUNNING`, job);
  }
  const told = await harness.onCluster(`scontrol --oneliner show job ${await jobOf(sidecar)}`);
  assertMatch(told, /\bCPUs\/Task=2\b/);
  assertMatch(told, /\bMinMemoryNode=287M\b/);
  // Again, as the kubelet starts a container that failed: in the same job while it lives.
  const again = await pod.run("client", { command: sh("cat /data/page; exit 5"), mounts }, 1);
  assertEquals((await harness.exited(again)).status.exitCode, 5);
  assertEquals(await jobOf(again), await jobOf(client));
  assertEquals(
    await harness.server.crictlOk(["exec", "--sync", sidecar, "echo", "inside"]),
    "inside",
  );
  await harness.server.crictlOk(["stopp", pod.id]);
  await harness.untilOnCluster(`squeue --noheader --name=multicri-pod-${pod.id}`, "");
  assertEquals(await jobsOf(pod), [`${await jobOf(sidecar)} COMPLETED`]);
  await harness.removeCleanly({ pod: pod.id, container: init });
  await files.remove();
});

Deno.test("a container of a shared job is stopped alone, with one SIGTERM or at once", async () => {
  const pod = await runPod(harness, SHARED);
  const [one, two, three] = [
    await pod.run("one", SLEEPER),
    await pod.run("two", SLEEPER),
    await pod.run("three", SLEEPER),
  ];
  for (const container of [one, two, three]) await lines(container, "ready");
  await harness.server.crictlOk(["stop", "--timeout", "20", one]);
  const { status } = await harness.inspect(one);
  assertEquals([status.state, status.exitCode], ["CONTAINER_EXITED", 9]);
  assertEquals((await harness.logs(one)).stdout, ["ready", "term"]);
  await harness.server.crictlOk(["stop", "--timeout", "0", two]);
  assertEquals((await harness.inspect(two)).status.exitCode, 137);
  const { status: third, info } = await harness.inspect(three);
  assertEquals(third.state, "CONTAINER_RUNNING");
  assertEquals((await harness.logs(three)).stdout, ["ready"]);
  // The end of the job is the end of all.
  await harness.onCluster(`scancel ${info.slurm.jobId}`);
  const end = (await harness.exited(three)).status;
  assertEquals([end.exitCode, end.reason], [221, "Cancelled"]);
  const anew = await pod.run("three", { command: sh("exit 6") }, 1);
  assertEquals((await harness.exited(anew)).status.exitCode, 6);
  assertEquals((await jobsOf(pod)).length, 2);
  await harness.removeCleanly({ pod: pod.id, container: one });
});

Deno.test("a shared job that waits ends with its sandbox, and a container of it alone", async () => {
  const pod = await runPod(harness, SHARED);
  const held = { ...SLEEPER, cluster: { JOB_QUEUE: "held" } };
  const [one, two] = [await pod.run("one", held), await pod.run("two", held)];
  assertEquals(await jobOf(one), await jobOf(two));
  await harness.server.crictlOk(["stop", "--timeout", "20", one]);
  const { status } = await harness.inspect(one);
  assertEquals([status.exitCode, status.state], [143, "CONTAINER_EXITED"]);
  assertEquals((await harness.inspect(two)).status.state, "CONTAINER_RUNNING");
  await harness.server.crictlOk(["stopp", pod.id]);
  assertEquals((await harness.inspect(two)).status.exitCode, 137);
  await harness.untilOnCluster(`squeue --noheader --name=multicri-pod-${pod.id}`, "");
  await harness.removeCleanly({ pod: pod.id, container: one });
});

Deno.test("containers of a shared job are stopped, and it ends, when somebody removed their directories", async () => {
  const pod = await runPod(harness, SHARED);
  const [one, other] = [await pod.run("one", SLEEPER), await pod.run("other", SLEEPER)];
  for (const container of [one, other]) await lines(container, "ready");
  await harness.onCluster(`rm -rf multi-cri/${pod.id}`);
  await harness.server.crictlOk(["stop", "--timeout", "0", one]);
  assertEquals((await harness.inspect(one)).status.exitCode, 137);
  assertMatch((await jobsOf(pod)).join(), /RUNNING/);
  await harness.server.crictlOk(["rmp", "--force", pod.id]);
  await harness.onCluster(
    `until [ -z "$(squeue --noheader --name=multicri-pod-${pod.id})" ]; do sleep 0.2; done`,
  );
  await harness.nothingLeft({ pod: pod.id, container: one });
});

Deno.test("containers of a shared job are found again when the server was killed", async () => {
  const own = await Harness.start({ name: "allocated" });
  const pod = await runPod(own, SHARED);
  const one = await pod.run("one", { command: sh("echo one; sleep 4; echo two; exit 7") });
  await own.server.kill();
  await own.server.start();
  const two = await pod.run("two", { command: sh("exit 8") });
  assertEquals((await own.exited(one)).status.exitCode, 7);
  assertEquals((await own.logs(one)).stdout, ["one", "two"]);
  assertEquals((await own.exited(two)).status.exitCode, 8);
  const jobs = await Promise.all(
    [one, two].map(async (id) => (await own.inspect(id)).info.slurm.jobId),
  );
  assertEquals(jobs[0], jobs[1]);
  await own.removeCleanly({ pod: pod.id, container: one });
  await own.stop();
});

const REFUSED: readonly [what: string, spec: JobSpec, says: RegExp][] = [
  [
    "the annotation is another word",
    { annotations: { "multicri.io/allocation": "node" } },
    /must be .{0,2}pod/,
  ],
  [
    "it asks for two nodes",
    { ...SHARED, cluster: { JOB_NUM_NODES: "2" } },
    /must be 1: current value is/,
  ],
];
for (const [what, spec, says] of REFUSED) {
  Deno.test(`a shared job is refused with a sentence when ${what}`, async () => {
    const failure = await harness.create({ command: ["true"], ...spec }).then(
      () => "it was created",
      (error: Error) => error.message,
    );
    assertMatch(failure, says);
  });
}

Deno.test("a shared job that Slurm refuses is told in Slurm's words", async () => {
  const pod = await runPod(harness, SHARED);
  const failure = await pod.run("main", { ...SLEEPER, cluster: { JOB_QUEUE: "nowhere" } })
    .catch((error: Error) => error.message);
  assertStringIncludes(failure, "invalid partition");
  await harness.server.crictlOk(["rmp", "--force", pod.id]);
  assertEquals(await harness.onCluster(`find multi-cri -path '*${pod.id}*'`), "");
});
