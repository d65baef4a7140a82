/** Servers of two nodes, and users, that share a cluster and must not disturb each other. */
import { assertEquals } from "@std/assert";
import { Harness, type JobSpec } from "./harness.ts";

/** A second user of the cluster. */
const NEIGHBOUR = { name: "maria", uid: 1001, password: "other $ecret" } as const;

let one: Harness;
let other: Harness;
Deno.test.beforeAll(async () => {
  [one, other] = [await Harness.start({ name: "one" }), await Harness.start({ name: "other" })];
});
Deno.test.afterAll(async () => {
  await one?.stop();
  await other?.stop();
});

/** Runs until it is told to end, and says so. */
const PATIENT: JobSpec = {
  command: ["/bin/sh", "-c", "trap 'echo told; exit 3' TERM; while :; do sleep 0.2; done"],
};

/** Checks that a container lives and can be worked in. */
async function assertLives(harness: Harness, container: string): Promise<void> {
  const { status, info } = await harness.inspect(container);
  assertEquals(status.state, "CONTAINER_RUNNING");
  const state = `squeue --noheader --job=${info.slurm.jobId} --format=%T`;
  const { stdout } = await harness.lab.exec("ctl", ["sh", "-c", state]);
  assertEquals(stdout.trim(), "RUNNING");
  assertEquals(
    await harness.server.crictlOk(["exec", "-s", "--timeout", "30", container, "echo", "here"]),
    "here",
  );
}

/** Ends a container and checks that the end is its own. */
async function assertEnds(
  harness: Harness,
  made: { pod: string; container: string },
): Promise<void> {
  await harness.server.crictlOk(["stop", "--timeout", "30", made.container]);
  const { status } = await harness.inspect(made.container);
  assertEquals([status.state, status.exitCode], ["CONTAINER_EXITED", 3]);
  assertEquals((await harness.logs(made.container)).stdout, ["told"]);
  await harness.removeCleanly(made);
}

Deno.test("two servers on one account bring an image at once, and each its own job", async () => {
  await one.onCluster("rm -rf multi-cri/.images");
  const both = await Promise.all([one, other].map((harness) => harness.run(PATIENT)));
  const [mine, theirs] = both;
  if (mine === undefined || theirs === undefined) throw new Error("two pods were expected");
  await Promise.all([one.running(mine.container), other.running(theirs.container)]);
  assertEquals(await one.onCluster("ls multi-cri/.images | wc -l"), "1");
  await assertLives(one, mine.container);
  await assertLives(other, theirs.container);
  await assertEnds(one, mine);
  await assertLives(other, theirs.container);
  await assertEnds(other, theirs);
});

Deno.test("a server that is killed, or loses its records, leaves another's jobs and files alone", async () => {
  const own = await Harness.start({ name: "forgetful" });
  try {
    const [mine, theirs] = [await own.run(PATIENT), await other.run(PATIENT)];
    await Promise.all([own.running(mine.container), other.running(theirs.container)]);
    // What another server has begun to upload.
    await other.onCluster("touch multi-cri/.images/elsewhere.sif.0123abcd.part");
    await own.server.kill();
    await own.server.start();
    await assertLives(own, mine.container);
    await assertLives(other, theirs.container);
    await own.server.kill();
    await own.server.forget();
    await own.server.start();
    assertEquals(await own.server.crictlOk(["ps", "--all", "--quiet"]), "");
    await assertLives(other, theirs.container);
    await assertEnds(other, theirs);
    await own.onCluster("rm multi-cri/.images/elsewhere.sif.0123abcd.part");
    // What nobody knows any more goes on, until an administrator ends it.
    const [job] = await own.jobsOf(mine.container);
    assertEquals(await own.onCluster(`squeue --noheader --job=${job} --format=%T`), "RUNNING");
    await own.onCluster(
      `scancel ${job}; while squeue -h -o %A | grep -qx ${job}; do sleep 0.1; done; rm -rf multi-cri/${mine.pod}`,
    );
  } finally {
    await own.stop();
  }
});

Deno.test("two users of one cluster have jobs, images and files of their own", async () => {
  const { name, uid, password } = NEIGHBOUR;
  for (const host of ["ctl", "n1", "n2"] as const) {
    const make =
      `id -u ${name} 2>/dev/null || useradd --uid ${uid} --create-home --shell /bin/bash ${name}
      chmod 700 /home/${name}; cat | chpasswd`;
    const stdin = `${name}:${password}\n`;
    assertEquals((await one.lab.exec(host, ["sh", "-ec", make], { stdin })).code, 0);
  }
  const mine = await one.run(PATIENT);
  const theirs = await one.run({
    ...PATIENT,
    cluster: { CLUSTER_USERNAME: name, CLUSTER_PASSWORD: password },
  });
  const { info: myInfo } = await one.running(mine.container);
  const { info } = await one.running(theirs.container);
  assertEquals(info.slurm.directory, `/home/${name}/multi-cri/${theirs.pod}/${theirs.container}`);
  const owner = `squeue --noheader --job=${info.slurm.jobId} --format=%u`;
  assertEquals(await one.onCluster(owner), name);
  await assertLives(one, mine.container);
  await assertLives(one, theirs.container);
  const peep = await one.lab.exec("ctl", ["ls", myInfo.slurm.directory ?? ""], { user: name });
  assertEquals(peep.code === 0, false);
  await assertEnds(one, mine);
  await assertLives(one, theirs.container);
  await assertEnds(one, theirs);
});
