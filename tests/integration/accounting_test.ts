/** What Slurm's accounting knows and decides, with a real slurmdbd. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { ACCOUNTING, Accounting } from "../../scripts/lab/accounting.ts";
import { Harness } from "./harness.ts";

let harness: Harness;
let accounting: Accounting;
Deno.test.beforeAll(async () => {
  harness = await Harness.start({ name: "accounting" });
  accounting = await Accounting.start(harness.lab);
});
Deno.test.afterAll(async () => {
  await harness?.stop();
  await accounting?.stop();
});

const sh = (script: string) => ["/bin/sh", "-c", script];

Deno.test("a job is accounted to the account and the QOS of its pod's annotations", async () => {
  const { account, qos } = ACCOUNTING;
  const made = await harness.run({
    command: sh("exit 4"),
    annotations: { "multicri.io/account": account, "multicri.io/qos": qos },
  });
  const { status, info } = await harness.exited(made.container);
  assertEquals(status.exitCode, 4);
  const told = await harness.onCluster(
    `sacct --noheader --allocations --parsable2 --jobs=${info.slurm.jobId} --format=Account,QOS,User`,
  );
  assertEquals(told, `${account}|${qos}|${harness.lab.login.user}`);
  await harness.removeCleanly(made);
});

const REFUSED: [annotation: string, words: string][] = [
  ["account", "Invalid account or account/partition combination specified"],
  ["qos", "Invalid qos specification"],
];
for (const [name, words] of REFUSED) {
  Deno.test(`a pod whose ${name} does not exist is told so in Slurm's words`, async () => {
    const made = await harness.create({
      command: sh("exit 0"),
      annotations: { [`multicri.io/${name}`]: "biology" },
    });
    const { code, stderr } = await harness.server.crictl(["start", made.container]);
    assertEquals(code === 0, false);
    assertStringIncludes(stderr, words);
    const { status } = await harness.inspect(made.container);
    assertEquals([status.state, status.exitCode], ["CONTAINER_EXITED", 128]);
    assertStringIncludes(status.message, words);
    assertStringIncludes((await harness.logs(made.container)).own.join("\n"), words);
    await harness.removeCleanly(made);
  });
}

Deno.test("the end of a job that slurmctld forgot and that left no exit code is accounting's", async () => {
  const own = await Harness.start({ name: "reckoned" });
  try {
    const wait = sh('until [ -e "$MULTICRI_RESULTS_DIR/go" ]; do sleep 0.1; done; exit 9');
    const made = await Promise.all([
      own.run({ command: wait }),
      own.run({ command: sh("sleep 600") }),
    ]);
    const [failing, cancelled] = await Promise.all(
      made.map(({ container }) => own.running(container)),
    );
    const [first, second] = [failing?.info.slurm, cancelled?.info.slurm];
    await own.server.kill();
    await own.onCluster(
      `touch ${first?.directory}/results/go
    scancel --signal=KILL --full ${second?.jobId}; scancel ${second?.jobId}
    while squeue -h -o %A | grep -qxE '${first?.jobId}|${second?.jobId}'; do sleep 0.1; done
    rm -f ${first?.directory}/results/go ${first?.directory}/status/exit ${second?.directory}/status/exit`,
    );
    // It is told of ends within moments; then the controller starts without what it knew.
    const forget =
      `until [ "$(sacct -nXP -j ${first?.jobId},${second?.jobId} -o End | grep -vc Unknown)" = 2 ]; do sleep 0.2; done
    pkill -x slurmctld
    while pgrep -x slurmctld >/dev/null; do sleep 0.1; done
    setsid --fork slurmctld -c -D >/dev/null 2>&1
    until sinfo >/dev/null 2>&1; do sleep 0.2; done`;
    const { code, stderr } = await own.lab.exec("ctl", ["sh", "-ec", forget], {
      timeoutMs: 60_000,
    });
    assertEquals(code, 0, stderr);
    await own.server.start();
    const ends = [];
    for (const { container } of made) {
      const { status } = await own.exited(container);
      ends.push([status.exitCode, status.reason]);
    }
    assertEquals(ends, [[9, "Error"], [221, "Cancelled"]]);
    for (const each of made) await own.removeCleanly(each);
  } finally {
    await own.stop();
  }
});
