/** A full home directory on the cluster: nothing is lost, and it is told in words. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import type { HostName } from "../../scripts/lab/settings.ts";
import { runOk } from "../../scripts/lab/process.ts";
import { Harness } from "../integration/harness.ts";

const CLUSTER: readonly HostName[] = ["ctl", "n1", "n2"];
/** The server's working directory on the cluster, a small file system of its own. */
const WORKING_DIRECTORY = "cramped";
const SIZE = "16M";

let harness: Harness;
let device = "";
Deno.test.beforeAll(async () => {
  harness = await Harness.start({
    name: "homefull",
    env: { CRI_SLURM_MOUNT_PATH: WORKING_DIRECTORY, CRI_SLURM_IMAGE_REMOTE_MOUNT: "images" },
  });
  const file = `${harness.lab.settings.folder}/small`;
  await runOk(["truncate", "-s", SIZE, file]);
  await runOk(["mkfs.ext4", "-q", "-m", "0", file]);
  device = (await runOk(["losetup", "--find", "--show", file])).trim();
  const { user } = harness.lab.login;
  const place = `/home/${user}/${WORKING_DIRECTORY}`;
  for (const host of CLUSTER) {
    const minor = device.replace("/dev/loop", "");
    await onHost(
      host,
      `mknod ${device} b 7 ${minor}; mkdir -p ${place}; mount ${device} ${place}
      chown ${user}: ${place}; rm -rf ${place}/lost+found`,
    );
  }
});
Deno.test.afterAll(async () => {
  await harness?.stop();
  for (const host of CLUSTER) {
    await onHost(
      host,
      `umount -l /home/${harness.lab.login.user}/${WORKING_DIRECTORY}; rm ${device}`,
    );
  }
  await runOk(["losetup", "--detach", device]);
});

const sh = (script: string) => ["/bin/sh", "-c", script];

async function onHost(host: HostName, script: string): Promise<void> {
  const { code, stderr } = await harness.lab.exec(host, ["sh", "-ec", script]);
  assertEquals(code, 0, stderr);
}

/** Leaves no byte. */
async function fill(): Promise<void> {
  await harness.onCluster(
    `cd ${WORKING_DIRECTORY}; for size in 64k 4k 1; do cat /dev/zero | dd bs=$size of=fill-$size status=none || :; done 2>/dev/null`,
  );
}

const free = () => harness.onCluster(`rm ${WORKING_DIRECTORY}/fill-*`);

/** A job that has written the line "before", and goes on as `script` says. */
async function begunJob(script: string): Promise<{ pod: string; container: string }> {
  const made = await harness.run({ command: sh(`echo before; ${script}`) });
  await harness.until(
    made.container,
    "begun",
    async () => (await harness.logs(made.container)).stdout.includes("before"),
  );
  return made;
}

Deno.test("a job that cannot be written down is refused with the reason, and nothing is left", async () => {
  await fill();
  try {
    const made = await harness.create({ command: sh("exit 0") });
    const { code, stderr } = await harness.server.crictl(["start", made.container]);
    assertEquals(code === 0, false);
    assertStringIncludes(stderr, "No space left on device");
    const { status } = await harness.inspect(made.container);
    assertEquals([status.state, status.exitCode, status.reason], [
      "CONTAINER_EXITED",
      128,
      "StartError",
    ]);
    assertStringIncludes(status.message, `Cannot write the job's files to /home/`);
    assertEquals(await harness.jobsOf(made.container), []);
    await harness.removeCleanly(made);
  } finally {
    await free();
  }
});

Deno.test("a job that ends while its home is full keeps its exit code", async () => {
  const made = await begunJob("trap 'exit 6' TERM; while :; do sleep 0.1; done");
  await fill();
  try {
    const { info } = await harness.inspect(made.container);
    await harness.onCluster(`scancel --batch --signal=TERM ${info.slurm.jobId}`);
    const { status } = await harness.exited(made.container);
    assertEquals(status.exitCode, 6, status.message);
    assertEquals((await harness.logs(made.container)).stdout[0], "before");
  } finally {
    await free();
  }
  await harness.removeCleanly(made);
});

Deno.test("a job goes on, and so does its log, when there is room again", async () => {
  const made = await begunJob(
    'until [ -e "$MULTICRI_RESULTS_DIR/go" ]; do echo x; sleep 0.1; done; rm "$MULTICRI_RESULTS_DIR/go"; echo after; exit 3',
  );
  await fill();
  const { info } = await harness.inspect(made.container);
  assertEquals((await harness.inspect(made.container)).status.state, "CONTAINER_RUNNING");
  await free();
  await harness.onCluster(`touch ${info.slurm.directory}/results/go`);
  const { status } = await harness.exited(made.container);
  assertEquals(status.exitCode, 3);
  const { stdout } = await harness.logs(made.container);
  assertEquals([stdout[0], stdout.at(-1)], ["before", "after"]);
  await harness.removeCleanly(made);
});
