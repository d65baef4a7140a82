/** kill -9 of the server at every stage of a job: one job, a whole log, the right exit code. */
import { assert, assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import { randomSource, seedFor } from "../../wasm/test_random.ts";
import { Harness } from "./harness.ts";

async function withHarness(
  name: string,
  test: (harness: Harness) => Promise<void>,
  flags: string[] = [],
): Promise<void> {
  const harness = await Harness.start({ name, flags });
  try {
    await test(harness);
  } finally {
    await harness.stop();
  }
}

async function readyPods({ server }: Harness): Promise<string[]> {
  const ids = await server.crictlOk(["pods", "--state", "Ready", "--quiet", "--no-trunc"]);
  return ids.split("\n").filter((id) => id !== "");
}

const sh = (script: string) => ["/bin/sh", "-c", script];

/** The program's lines, numbered, so that a lost or doubled one shows. */
const COUNT_SCRIPT = "for i in $(seq 1 80); do echo line $i; sleep 0.05; done; exit 5";
const COUNT_LINES = Array.from({ length: 80 }, (_, index) => `line ${index + 1}`);

Deno.test("a job is found again when the server is killed while it pends", () =>
  withHarness("killpend", async (harness) => {
    const made = await harness.run({
      command: sh(COUNT_SCRIPT),
      cluster: { JOB_CUSTOM_CONFIG: "#SBATCH --hold" },
    });
    await harness.server.kill();
    await harness.server.start();
    assertEquals((await harness.inspect(made.container)).status.state, "CONTAINER_RUNNING");
    const [job] = await harness.jobsOf(made.container);
    await harness.onCluster(`scontrol release ${job}`);
    const { status } = await harness.exited(made.container);
    assertEquals(status.exitCode, 5);
    assertEquals((await harness.logs(made.container)).stdout, COUNT_LINES);
    assertEquals(await harness.jobsOf(made.container), [job ?? ""]);
    await harness.removeCleanly(made);
  }));

Deno.test("a job's log is whole when the server is killed again and again while it runs", () =>
  withHarness("killrun", async (harness) => {
    const made = await harness.run({ command: sh(COUNT_SCRIPT) });
    await harness.running(made.container);
    for (let kills = 0; kills < 4; kills++) {
      await harness.server.kill();
      await harness.server.start();
      await delay(200);
    }
    const { status } = await harness.exited(made.container);
    assertEquals(status.exitCode, 5);
    assertEquals((await harness.logs(made.container)).stdout, COUNT_LINES);
    assertEquals((await harness.jobsOf(made.container)).length, 1);
    await harness.removeCleanly(made);
  }));

Deno.test("a job's end is seen when it comes while the server is down", () =>
  withHarness("killend", async (harness) => {
    const made = await harness.run({ command: sh("echo out; sleep 2; echo last; exit 3") });
    const { info } = await harness.running(made.container);
    await harness.server.kill();
    await harness.onCluster(
      `until [ -e ${info.slurm.directory}/status/exit ]; do sleep 0.1; done`,
    );
    await harness.server.start();
    // Recovery comes before the socket, so the first answer already tells the end.
    const { status } = await harness.inspect(made.container);
    assertEquals([status.state, status.exitCode], ["CONTAINER_EXITED", 3]);
    assertEquals((await harness.logs(made.container)).stdout, ["out", "last"]);
    await harness.removeCleanly(made);
  }));

/** Commands of crictl that the server may not live to answer. */
class Walk {
  readonly random = randomSource(seedFor("random moments"));
  kills = 0;

  constructor(readonly harness: Harness) {}

  /**
   * Runs a command; in every second case, by chance, the server is killed at a random moment of it, and the command
   * is then repeated if `repeats` says so. Returns the last answer.
   */
  async step(args: string[], repeats = () => Promise.resolve(true)): Promise<string> {
    const { server } = this.harness;
    if (this.random.below(2) === 0) {
      const call = server.crictl(args);
      await delay(this.random.below(350));
      await server.kill();
      this.kills++;
      const { stdout } = await call;
      await server.start();
      if (!await repeats()) return stdout.trim();
    }
    return await server.crictlOk(args);
  }
}

/** A pod's whole life with a program that ends or has to be ended. */
async function walk(walk: Walk, ends: boolean): Promise<void> {
  const { harness } = walk;
  const script = ends ? "echo once; exit 4" : "echo once; sleep 600";
  const { sandboxFile, containerFile } = await harness.write({ command: sh(script) });
  const pod = await walk.step(["runp", "--runtime", "multicri", sandboxFile]);
  const container = await walk.step(["create", pod, containerFile, sandboxFile]);
  const made = { pod, container };
  // As the kubelet: the lists say what is done next.
  const lists = async (command: string[], id: string) =>
    (await harness.server.crictlOk([...command, "--no-trunc", "--quiet"])).includes(id);
  const killsBefore = walk.kills;
  await walk.step(["start", container], () => lists(["ps", "--state", "Created"], container));
  // The next server finishes the start behind its socket, unless it is told to stop the container before.
  const mayNeverStart = walk.kills > killsBefore && !ends;
  if (ends) {
    assertEquals((await harness.exited(container)).status.exitCode, 4);
    assertEquals((await harness.logs(container)).stdout, ["once"]);
    assertEquals((await harness.jobsOf(container)).length, 1);
  }
  if (walk.random.below(2) === 0) await walk.step(["stop", "--timeout", "1", container]);
  // Without one of these, RemovePodSandbox does it.
  await walk.step(["stopp", pod]);
  if (walk.random.below(2) === 0) {
    await walk.step(["rm", container], () => lists(["ps", "--all"], container));
  }
  const jobs = (await harness.jobsOf(container)).length;
  assertEquals(jobs, mayNeverStart ? Math.min(jobs, 1) : 1);
  await walk.step(["rmp", pod], () => lists(["pods"], pod));
  assertEquals(await lists(["pods"], pod), false);
  await harness.nothingLeft(made);
}

Deno.test("a container has one job and leaves nothing when the server is killed at random moments", () =>
  withHarness("killwalk", async (harness) => {
    const walker = new Walk(harness);
    for (let round = 0; round < 8; round++) await walk(walker, walker.random.below(2) === 0);
  }));

Deno.test("a pod and its job go on over a reboot when pod persistence is on", () =>
  withHarness("persist", async (harness) => {
    const made = await harness.run({ command: sh("echo before; sleep 4; echo after; exit 6") });
    await harness.running(made.container);
    await harness.stop();
    // A reboot empties /run.
    await harness.lab.exec("knode", ["rm", "-rf", harness.server.stateDir]);
    await harness.server.start();
    assertEquals(await readyPods(harness), [made.pod]);
    assertEquals((await harness.exited(made.container)).status.exitCode, 6);
    assertEquals((await harness.logs(made.container)).stdout, ["before", "after"]);
    assertEquals((await harness.jobsOf(made.container)).length, 1);
    await harness.removeCleanly(made);
  }, ["--enable-pod-persistence"]));

Deno.test("the old job ends when a pod starts anew after a reboot that lost the records", () =>
  withHarness("reboot", async (harness) => {
    const uid = crypto.randomUUID();
    const before = await harness.run({ command: sh("sleep 600"), uid });
    await harness.running(before.container);
    await harness.server.kill();
    await harness.lab.exec("knode", ["rm", "-rf", harness.server.stateDir]);
    await harness.server.start();
    assertEquals(await harness.server.crictlOk(["ps", "-a", "-q"]), "");
    const after = await harness.run({ command: sh("echo anew"), uid });
    assertEquals((await harness.exited(after.container)).status.exitCode, 0);
    const alive = await harness.onCluster(
      `squeue --noheader --name=multicri-${before.container} --format=%A; find . -path '*${before.pod}*'`,
    );
    assertEquals(alive, "");
    await harness.removeCleanly(after);
  }));

Deno.test("a container's log has only what its program writes when lines of our own are switched off", () =>
  withHarness("silent", async (harness) => {
    const made = await harness.run({ command: sh("echo out; echo err >&2") });
    await harness.exited(made.container);
    assertEquals(await harness.logs(made.container), { stdout: ["out"], stderr: ["err"], own: [] });
    await harness.removeCleanly(made);
  }, ["--job-log-lines=false"]));

Deno.test("last known states stand when the cluster cannot be reached", () =>
  withHarness("cutoff", async (harness) => {
    const made = await harness.run({ command: sh("echo before; sleep 6; echo after; exit 2") });
    await harness.running(made.container);
    const { lab } = harness;
    const cut = ["ip", "route", "add", "blackhole", `${lab.login.host}/32`];
    const heal = ["ip", "route", "del", "blackhole", `${lab.login.host}/32`];
    assertEquals((await lab.exec("knode", cut)).code, 0);
    try {
      await delay(3_000);
      assertEquals((await harness.inspect(made.container)).status.state, "CONTAINER_RUNNING");
      // A server that starts while the cluster is away answers all the same.
      await harness.server.kill();
      await harness.server.start();
      assertEquals((await harness.inspect(made.container)).status.state, "CONTAINER_RUNNING");
      assertEquals(await readyPods(harness), [made.pod]);
      // A kubelet that starts meanwhile ends itself without the one, and runs no pod without the other.
      await harness.server.crictlOk(["runtime-config"]);
      const { status } = JSON.parse(await harness.server.crictlOk(["info"]));
      const conditions: { type: string; status: boolean }[] = status.conditions;
      assertEquals(
        conditions.map(({ type, status }) => [type.replace(/\/.*/, ""), status]),
        [["RuntimeReady", true], ["NetworkReady", true], ["ClusterReachable", false]],
      );
      const stop = await harness.server.crictl(["stop", "--timeout", "1", made.container]);
      assert(stop.code !== 0 && /Unavailable/.test(stop.stderr), stop.stderr);
    } finally {
      assertEquals((await lab.exec("knode", heal)).code, 0);
    }
    await harness.server.crictlOk(["stop", "--timeout", "30", made.container]);
    const { status } = await harness.inspect(made.container);
    assertEquals(status.state, "CONTAINER_EXITED");
    await harness.removeCleanly(made);
  }));
