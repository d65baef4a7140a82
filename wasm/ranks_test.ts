import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { TestJob, until } from "./test_job.ts";

/** What starts ranks, as these tests have it: two, each with a number, and the code of the one that failed first. */
const LAUNCHER =
  `export OMPI_COMM_WORLD_RANK OPAL_PREFIX=/host OMPI_ROOT=/host SLURM_PROCID=9 PMIX_URI=u=1
for OMPI_COMM_WORLD_RANK in 0 1; do "$@" & pids+=" $!"; done
worst=0
for pid in $pids; do wait $pid; code=$?; ((worst)) || worst=$code; done
exit $worst`;

const ranks = (runtime: string, launcher = ["mpirun"]) => ({
  runtime,
  programs: { mpirun: LAUNCHER, srun: LAUNCHER },
  job: { launcher, module: "" },
});
/** The script runs there as a file of the container's directory. */
async function withScript(job: TestJob): Promise<TestJob> {
  await Deno.copyFile(`${job.root}/job.sh`, `${job.directory}/job.sh`);
  return job;
}
const ENV = { HOME: "/home/u" };

Deno.test("an MPI job puts the container around each rank, with what the launcher tells it", async () => {
  await using job = await TestJob.create({
    ...ranks('echo "$* ${!APPTAINERENV_@} $APPTAINERENV_A"'),
    variables: [{ name: "A", value: "it's" }],
  });
  await withScript(job);
  assertEquals(await job.run("17", ENV), 0);
  const words = `--silent exec --scratch /home/u --no-eval ${job.root}/image.sif program ` +
    "APPTAINERENV_A APPTAINERENV_OMPI_COMM_WORLD_RANK APPTAINERENV_PMIX_URI it's\n";
  assertEquals(await job.read("stdout"), words + words);
});

Deno.test("each rank looks at its volumes, on its node, before its container is started", async () => {
  await using job = await TestJob.create(ranks("echo started"));
  await withScript(job);
  const look = `printf '%s %s\\n' "$multicri_mode" "\${#multicri_words[@]}" >>looked
[[ $multicri_mode != rank || $OMPI_COMM_WORLD_RANK == 0 ]] || multicri_refuse 125 "it is a link"\n`;
  await Deno.writeTextFile(`${job.directory}/volumes.sh`, look);
  assertEquals(await job.run("17", ENV), 125);
  // Of the job itself the launcher with its words, of a rank the runtime with its.
  assertEquals(await job.read("looked"), "job 4\nrank 8\nrank 8\n");
  assertEquals(await job.read("stdout"), "started\n");
  assertStringIncludes(await job.read("stderr") ?? "", "a rank cannot be started: it is a link");
});

Deno.test("srun's ranks get Slurm's variables too", async () => {
  await using job = await TestJob.create(ranks('echo "$APPTAINERENV_SLURM_PROCID"', ["srun"]));
  await withScript(job);
  assertEquals(await job.run("17", ENV), 0);
  assertEquals(await job.read("stdout"), "9\n9\n");
});

Deno.test("an MPI job tells its launcher's code, and why a rank could not be started", async () => {
  await using job = await TestJob.create(ranks('exit "$((6 + OMPI_COMM_WORLD_RANK))"'));
  await withScript(job);
  assertEquals(await job.run("17", ENV), 6);
  await Deno.remove(`${job.root}/image.sif`);
  await using other = await TestJob.create({
    ...ranks("exit 0"),
    programs: { mpirun: `rm ${job.root}/gone; "$@"` },
    job: { launcher: ["mpirun"], module: "", image: `${job.root}/gone` },
  });
  await Deno.writeTextFile(`${job.root}/gone`, "");
  await withScript(other);
  assertEquals(await other.run("17", ENV), 125);
  assertMatch(
    await other.read("stderr") ?? "",
    /^multicri: a rank cannot be started: the image .*gone cannot be read on /,
  );
});

Deno.test("an MPI job has not succeeded when its launcher started no rank", async () => {
  await using job = await TestJob.create({
    ...ranks("echo ran", ["mpirun", "-np", "2", "touch", "x"]),
    programs: { mpirun: 'shift 2; "$@"', touch: 'echo "$@" >&2' },
  });
  await withScript(job);
  assertEquals(await job.run("17", ENV), 125);
  assertStringIncludes((await job.status("exit")).error ?? "", "without having started a rank");
  assertEquals(await job.read("stdout"), "");
});

Deno.test("an MPI job tells why the runtime could not start its program, before what the launcher says", async () => {
  for (const number of ["", "1: "]) {
    await using job = await TestJob.create(
      ranks(`echo "${number}FATAL:   no /nope" >&2; exit 255`),
    );
    const launcher = `${LAUNCHER.replace("exit", 'echo "mpirun has its own words" >&2; exit')}`;
    await Deno.writeTextFile(`${job.root}/bin/mpirun`, `#!/bin/bash\n${launcher}\n`);
    await withScript(job);
    assertEquals(await job.run("17", ENV), 255);
    assertEquals((await job.status("exit")).error, "the container runtime says: no /nope");
  }
});

Deno.test("an MPI job says so when its launcher is not there", async () => {
  await using job = await TestJob.create({
    runtime: "echo ran >ran",
    job: { launcher: ["mpirun"], module: "" },
  });
  assertEquals(await job.run("17", ENV), 125);
  assertStringIncludes((await job.status("exit")).error ?? "", "mpirun is not in PATH");
  assertEquals(await job.read("ran"), undefined);
});

Deno.test("a signal reaches every rank once, and none is started after TERM", async () => {
  await using job = await TestJob.create(ranks(
    `count=0; trap '((++count))' TERM; echo ready
     until ((count > 0)); do sleep 0.05; done; sleep 0.3; echo "TERM $count"; exit 9`,
  ));
  await withScript(job);
  const child = job.start("17", ENV);
  await job.waitFor("stdout", "ready\nready\n");
  child.kill("SIGTERM");
  assertEquals((await child.status).code, 9);
  assertEquals(await job.read("stdout"), "ready\nready\nTERM 1\nTERM 1\n");
  const late = new Deno.Command("bash", {
    args: [`${job.directory}/job.sh`, "rank"],
    env: { ...ENV, PATH: `${job.root}/bin`, SLURM_JOB_ID: "17" },
    clearEnv: true,
  });
  assertEquals((await late.output()).code, 143);
});

Deno.test("an MPI job loads the module of its launcher, or says that it cannot", async (t) => {
  const module = `module() { case "$2" in
    openmpi/4.1 | site/mpi) export LOADED=$2; return 0 ;;
    quiet/*) echo "ERROR: Unable to locate a modulefile for '$2'" >&2; return 0 ;;
    *) echo "no $2" >&2; return 1 ;; esac; }`;
  for (
    const [name, loaded, error] of [
      ["4.1", "openmpi/4.1", ""],
      ["site/mpi", "site/mpi", ""],
      ["9.9", "", ""],
      ["quiet/1", undefined, "the module quiet/1 of MPI_VERSION cannot be loaded on"],
      ["site/other", undefined, "no site/other"],
    ] as [string, string | undefined, string][]
  ) {
    await t.step(name, async () => {
      await using job = await TestJob.create({
        ...ranks('echo "$LOADED"'),
        prerun: module,
        job: { launcher: ["mpirun"], module: name },
      });
      await withScript(job);
      assertEquals(await job.run("17", ENV), loaded === undefined ? 125 : 0);
      if (loaded !== undefined) {
        assertEquals(await job.read("stdout"), `${loaded}\n${loaded}\n`);
      }
      await until("the end is told", async () => (await job.status("exit")).code !== undefined);
      assertStringIncludes((await job.status("exit")).error ?? "", error);
    });
  }
});
