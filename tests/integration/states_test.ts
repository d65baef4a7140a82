/** States that Slurm puts jobs into, on the real lab. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { Harness } from "./harness.ts";

let harness: Harness;
Deno.test.beforeAll(async () => {
  harness = await Harness.start({ name: "states" });
});
Deno.test.afterAll(() => harness?.stop());

const sh = (script: string) => ["/bin/sh", "-c", script];
/** Ends well when it is told to, as a program that can be resumed does. */
const RESUMABLE = sh("trap 'echo told; exit 0' TERM; echo begun; while :; do sleep 0.2; done");

async function onHost(host: "ctl" | "n1" | "n2", script: string): Promise<void> {
  const { code, stderr } = await harness.lab.exec(host, ["sh", "-ec", script]);
  assertEquals(code, 0, stderr);
}

const begun = (container: string, times: number) =>
  harness.until(container, `begun ${times} times`, async () => {
    const { stdout } = await harness.logs(container);
    return stdout.filter((line) => line === "begun").length === times;
  });

Deno.test("a preempted job that may be requeued goes on, and ends once", async () => {
  const made = await harness.run({
    command: RESUMABLE,
    annotations: { "multicri.io/custom-config": "#SBATCH --requeue" },
    cluster: { JOB_QUEUE: "scavenger" },
  });
  await begun(made.container, 1);
  const urgent = await harness.onCluster("sbatch --parsable -p urgent --wrap 'sleep 3'");
  await harness.until(
    made.container,
    "waiting again",
    ({ status, info }) => {
      assertEquals(status.state, "CONTAINER_RUNNING");
      return info.slurm.pending !== undefined;
    },
  );
  // Slurm lets a requeued job wait for two minutes.
  const { info } = await harness.inspect(made.container);
  const release = `scontrol update job=${info.slurm.jobId} starttime=now`;
  await onHost("ctl", `while squeue -h -o %A | grep -qx ${urgent}; do sleep 0.2; done; ${release}`);
  await begun(made.container, 2);
  const { own } = await harness.logs(made.container);
  assertStringIncludes(own.join("\n"), "was put back into the queue by Slurm");
  await harness.server.crictlOk(["stop", "--timeout", "30", made.container]);
  const { status } = await harness.inspect(made.container);
  assertEquals([status.state, status.exitCode], ["CONTAINER_EXITED", 0]);
  await harness.removeCleanly(made);
});

Deno.test("a preempted job that may not be requeued ends with 225", async () => {
  const made = await harness.run({ command: RESUMABLE, cluster: { JOB_QUEUE: "scavenger" } });
  await begun(made.container, 1);
  await harness.onCluster("sbatch --parsable -p urgent --wrap 'sleep 1'");
  const { status } = await harness.exited(made.container);
  assertEquals([status.exitCode, status.reason], [225, "Preempted"]);
  await harness.removeCleanly(made);
});

Deno.test("a job ends with 224 when its node fails", async () => {
  const made = await harness.run({
    command: RESUMABLE,
    annotations: { "multicri.io/custom-config": "#SBATCH --nodelist=n2" },
  });
  await begun(made.container, 1);
  const { info } = await harness.inspect(made.container);
  try {
    // As a power failure: nothing on the node ends in order.
    await onHost(
      "n2",
      `pkill -KILL -x slurmd; pkill -KILL -f 'slurmstepd: .${info.slurm.jobId}\\.'`,
    );
    await onHost("ctl", "scontrol update nodename=n2 state=down reason=test");
    const { status } = await harness.exited(made.container);
    assertEquals([status.exitCode, status.reason], [224, "NodeFail"]);
  } finally {
    await onHost("n2", "pkill -KILL -u jorge || :; setsid --fork slurmd -D -N n2 >/dev/null 2>&1");
    await onHost("ctl", "scontrol update nodename=n2 state=resume || :");
  }
  await harness.removeCleanly(made);
});

Deno.test("a job's end is told while slurmctld is down, and what is started then begins once it is back", async () => {
  const first = await harness.run({
    command: sh('echo begun; until [ -e "$MULTICRI_RESULTS_DIR/go" ]; do sleep 0.1; done; exit 7'),
  });
  await begun(first.container, 1);
  const second = await harness.create({ command: sh("echo begun; exit 8") });
  const { info } = await harness.inspect(first.container);
  await onHost(
    "ctl",
    "pkill -x slurmctld; while pgrep -x slurmctld >/dev/null; do sleep 0.1; done",
  );
  let start: Promise<string> | undefined;
  try {
    await harness.onCluster(`touch ${info.slurm.directory}/results/go`);
    assertEquals((await harness.exited(first.container)).status.exitCode, 7);
    start = harness.server.crictlOk(["start", second.container]);
    start.catch(() => {});
    // It asks for a controller that is not there.
    await onHost("ctl", "until pgrep -x sbatch >/dev/null; do sleep 0.1; done");
  } finally {
    await onHost(
      "ctl",
      // The lab is whole when both nodes have answered it.
      `setsid --fork slurmctld -D >/dev/null 2>&1
      until [ "$(sinfo -h -N -p main -o %T 2>/dev/null | grep -cE '^(idle|mixed|allocated)$')" = 2 ]; do sleep 0.2; done`,
    );
  }
  await start;
  assertEquals((await harness.exited(second.container)).status.exitCode, 8);
  await begun(second.container, 1);
  await harness.onCluster(`rm -r ${info.slurm.directory}/results`);
  for (const made of [first, second]) await harness.removeCleanly(made);
});

Deno.test("a job that slurmctld forgot and that left no exit code is told as lost", async () => {
  const own = await Harness.start({ name: "forgot" });
  try {
    const made = await own.run({ command: sh("sleep 600") });
    const { info } = await own.running(made.container);
    const { jobId, directory, job } = info.slurm;
    await own.server.kill();
    // Its script dies without a word; then the controller starts without what it knew.
    await onHost(
      job?.host === "n2" ? "n2" : "n1",
      `pkill -KILL -f '/job0*${jobId}/slurm_script'; pkill -KILL -u ${own.lab.login.user}`,
    );
    await onHost(
      "ctl",
      `while squeue -h -o %A | grep -qx ${jobId}; do sleep 0.2; done
      sleep 1
      pkill -x slurmctld
      while pgrep -x slurmctld >/dev/null; do sleep 0.1; done
      setsid --fork slurmctld -c -D >/dev/null 2>&1
      until sinfo >/dev/null 2>&1; do sleep 0.2; done`,
    );
    assertEquals((await own.lab.exec("ctl", ["scontrol", "show", "job", `${jobId}`])).code, 1);
    await own.onCluster(`[ ! -e ${directory}/status/exit ]`);
    await own.server.start();
    const { status } = await own.exited(made.container);
    // The lab has no accounting, whose answers are in the table of queue_test.ts.
    assertEquals([status.exitCode, status.reason], [255, "JobLost"]);
    await own.removeCleanly(made);
  } finally {
    await own.stop();
  }
});
