/** kill -9 of the server at every stage of a job: one job, a whole log, the right exit code. */
import { assert, assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
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

Deno.test("one job is submitted when the server is killed at random moments of a start", () =>
  withHarness("killstart", async (harness) => {
    const seed = crypto.getRandomValues(new Uint32Array(1))[0] ?? 1;
    let state = seed;
    const random = (below: number) => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return (state >>> 8) % below;
    };
    for (let round = 0; round < 8; round++) {
      const message = `seed ${seed}, round ${round}`;
      const made = await harness.create({ command: sh("echo once; exit 4") });
      const starting = harness.server.crictl(["start", made.container]);
      await delay(random(350));
      await harness.server.kill();
      await starting;
      await harness.server.start();
      const { status } = await harness.inspect(made.container);
      if (status.state === "CONTAINER_CREATED") {
        // Killed before anything was done: the client's next try is the first.
        assertEquals(await harness.jobsOf(made.container), [], message);
        await harness.server.crictlOk(["start", made.container]);
      }
      assertEquals((await harness.exited(made.container)).status.exitCode, 4, message);
      assertEquals((await harness.logs(made.container)).stdout, ["once"], message);
      assertEquals((await harness.jobsOf(made.container)).length, 1, message);
      await harness.removeCleanly(made);
    }
  }));

Deno.test("records survive in --root-dir when pod persistence is on", () =>
  withHarness("persist", async (harness) => {
    const made = await harness.run({ command: sh("exit 6") });
    await harness.exited(made.container);
    await harness.stop();
    // A reboot empties /run.
    await harness.lab.exec("knode", ["rm", "-rf", harness.server.stateDir]);
    await harness.server.start();
    assertEquals((await harness.inspect(made.container)).status.exitCode, 6);
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
