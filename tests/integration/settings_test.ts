/** What pods ask of Slurm by annotations, on the real lab, driven by crictl alone. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { Harness } from "./harness.ts";

let harness: Harness;
Deno.test.beforeAll(async () => {
  harness = await Harness.start({ name: "settings", flags: ["--join-commands=false"] });
});
Deno.test.afterAll(() => harness?.stop());

const sh = (script: string) => ["/bin/sh", "-c", script];

Deno.test("a pod's annotations become the job's settings, and its variables win", async () => {
  const made = await harness.run({
    command: sh("echo never"),
    annotations: {
      "multicri.io/queue": "held",
      "multicri.io/num-cores": "2",
      "multicri.io/licenses": "solver:2",
      "multicri.io/time-limit": "1-02:03",
      "multicri.io/warning-signal": "USR1@90",
      "multicri.io/custom-config": "#SBATCH --hold",
      "multicri.io/qoss": "high",
    },
    cluster: { JOB_QUEUE: "main", JOB_NUM_CORES: "3" },
  });
  const { info } = await harness.until(
    made.container,
    "held",
    ({ info }) => info.slurm.pending !== undefined,
  );
  const shown = await harness.onCluster(`scontrol --oneliner show job ${info.slurm.jobId}`);
  for (
    const words of [
      "Partition=main ",
      "NumTasks=3 ",
      "Licenses=solver:2 ",
      "TimeLimit=1-02:03:00 ",
      "Reason=JobHeldUser ",
    ]
  ) {
    assertStringIncludes(shown, words);
  }
  assertEquals(info.slurm.pending?.reason, "JobHeldUser");
  const { own } = await harness.logs(made.container);
  assertStringIncludes(own.join("\n"), 'ignored: the annotation "multicri.io/qoss": known are ');
  assertStringIncludes(own.join("\n"), "waits: JobHeldUser, priority 0");
  await harness.removeCleanly(made);
});

for (const name of ["account", "qos", "constraint", "reservation", "licenses", "gres"]) {
  Deno.test(`a job is refused in Slurm's words when its pod asks for a ${name} that is none`, async () => {
    const made = await harness.create({
      command: sh("echo never"),
      annotations: { [`multicri.io/${name}`]: "no-such" },
    });
    const { code, stderr } = await harness.server.crictl(["start", made.container]);
    const { status } = await harness.inspect(made.container);
    // Without accounting Slurm knows no accounts and no QOS, and takes any.
    const taken = ["account", "qos"].includes(name);
    assertEquals([code === 0, status.reason === "StartError"], [taken, !taken], stderr);
    if (!taken) assertStringIncludes(status.message, "refused the job: ");
    await harness.removeCleanly(made);
  });
}

Deno.test("the words && and || are literal when their joining is switched off", async () => {
  const made = await harness.run({ command: ["echo", "a", "&&", "echo", "b", "||", "c"] });
  await harness.exited(made.container);
  assertEquals((await harness.logs(made.container)).stdout, ["a && echo b || c"]);
  await harness.removeCleanly(made);
});

Deno.test("a program gets its warning signal before the time limit, and 222 after it", async () => {
  const script = "trap 'echo warned' USR1; echo ready; while :; do sleep 1; done";
  const made = await harness.run({
    command: sh(script),
    annotations: { "multicri.io/time-limit": "1", "multicri.io/warning-signal": "USR1@20" },
  });
  // Slurm's time limits are minutes.
  const { status } = await harness.exited(made.container, 150_000);
  assertEquals([status.exitCode, status.reason], [222, "DeadlineExceeded"]);
  assertStringIncludes(status.message, "TIMEOUT");
  assertEquals((await harness.logs(made.container)).stdout, ["ready", "warned"]);
  await harness.removeCleanly(made);
});
