import { assertEquals, assertStringIncludes } from "@std/assert";
import { dirname, join } from "@std/path";
import { SUBMIT_EXIT, submitScript } from "./cluster_scripts.ts";
import { archive, JOB_NAME, namesIn, testInShells, text } from "./test_scripts.ts";

testInShells({
  "submitScript() makes private files and submits the job": async (place) => {
    const result = await place.submit([{ name: "SLURM_X", value: "a 'b'\n$c" }]);
    assertEquals([result.code, text(result.stdout), text(result.stderr)], [0, "101\n", ""]);
    for (const name of ["env", "jobid", "job.sh"]) {
      assertEquals((await Deno.stat(join(place.directory, name))).mode, 0o100600);
    }
    assertEquals((await Deno.stat(place.directory)).mode, 0o040700);
    assertEquals(place.names()?.includes("results"), true);
  },

  "submitScript() hands the submission's variables to sbatch exactly": async (place) => {
    await place.cluster.program("sbatch", `\nprintf '%s|' "$SLURM_X" >"$FAKE/seen"; echo 5`);
    const result = await place.submit([{ name: "SLURM_X", value: "a 'b'\n$c\n" }]);
    assertEquals(text(result.stdout), "5\n");
    assertEquals(
      await Deno.readTextFile(join(place.cluster.root, "fake/seen")),
      "a 'b'\n$c\n|",
    );
  },

  "submitScript() submits nothing when its mark cannot be made": async (place) => {
    await Deno.mkdir(place.directory, { recursive: true });
    await Deno.symlink("/no/such/directory/x", join(place.directory, "attempted"));
    assertEquals((await place.submit()).code, SUBMIT_EXIT.FILES);
    assertEquals(await place.cluster.calls("sbatch"), 0);
  },

  "submitScript() submits once when it is called again": async (place) => {
    await place.submit();
    const again = await place.submit();
    assertEquals([again.code, text(again.stdout)], [0, "101\n"]);
    assertEquals(await place.cluster.calls("sbatch"), 1);
    assertEquals(await place.cluster.calls("squeue"), 0);
  },

  "submitScript() submits once when it is called twice at a time": async (place) => {
    const both = await Promise.all([place.submit(), place.submit()]);
    assertEquals(both.map(({ stdout }) => text(stdout)), ["101\n", "101\n"]);
    assertEquals(await place.cluster.calls("sbatch"), 1);
  },

  "submitScript() finds the job in Slurm when it died before the id was written": async (place) => {
    await place.cluster.fake("sbatch.dies", "");
    assertEquals((await place.submit()).code, 128 + 9);
    assertEquals(place.names()?.includes("jobid"), false);
    await place.cluster.fake("sbatch.dies");
    const again = await place.submit();
    assertEquals([again.code, text(again.stdout)], [0, "101\n"]);
    assertEquals(await place.cluster.calls("sbatch"), 1);
  },

  "submitScript() takes the id from the job's own claim when Slurm forgot the job": async (
    place,
  ) => {
    await place.cluster.fake("sbatch.dies", "");
    await place.submit();
    await place.cluster.fake("sbatch.dies");
    await place.cluster.fake("jobs/101");
    await Deno.symlink("101", join(place.directory, "status/claim"));
    assertEquals(text((await place.submit()).stdout), "101\n");
    assertEquals(await place.cluster.calls("sbatch"), 1);
  },

  "submitScript() submits again when Slurm says that there was no job": async (place) => {
    await place.cluster.fake("sbatch.fails", "sbatch: error: Unable to contact slurm controller");
    const refused = await place.submit();
    assertEquals(refused.code, SUBMIT_EXIT.REFUSED);
    assertStringIncludes(text(refused.stderr), "Unable to contact slurm controller");
    await place.cluster.fake("sbatch.fails");
    assertEquals(text((await place.submit()).stdout), "101\n");
  },

  "submitScript() submits nothing when Slurm cannot say whether there was a job": async (place) => {
    await place.cluster.fake("sbatch.dies", "");
    await place.submit();
    await place.cluster.fake("squeue.fails", "slurm_load_jobs error: Unable to contact\n");
    const again = await place.submit();
    assertEquals(again.code, SUBMIT_EXIT.TRY_AGAIN);
    assertStringIncludes(text(again.stderr), "Unable to contact");
    assertEquals(await place.cluster.calls("sbatch"), 1);
  },

  "submitScript() submits nothing while another submission is under way": async (place) => {
    await place.cluster.program("flock", "\nexit 1");
    assertEquals((await place.submit()).code, SUBMIT_EXIT.TRY_AGAIN);
    assertEquals(await place.cluster.calls("sbatch"), 0);
  },

  "submitScript() goes on where the file system has no locks": async (place) => {
    await place.cluster.program("flock", "\nexit 71");
    assertEquals(text((await place.submit()).stdout), "101\n");
  },

  "submitScript() says so when the directory cannot be made": async (place) => {
    await Deno.mkdir(dirname(dirname(place.directory)), { recursive: true });
    await Deno.writeTextFile(dirname(place.directory), "in the way");
    assertEquals((await place.submit()).code, SUBMIT_EXIT.FILES);
    assertEquals(await place.cluster.calls("sbatch"), 0);
  },

  "submitScript() submits nothing when its files arrived in part": async (place) => {
    const { directory } = place;
    const stdin = (await archive({ "job.sh": "x".repeat(2000) })).subarray(0, 1000);
    const script = submitScript({ directory, jobName: JOB_NAME, optionNames: [], environment: [] });
    assertEquals((await place.cluster.run(script, { stdin })).code, SUBMIT_EXIT.FILES);
    assertEquals(await place.cluster.calls("sbatch"), 0);
    assertEquals(text((await place.submit()).stdout), "101\n");
  },

  "findJobScript() prints nothing when nothing was submitted": async (place) => {
    const missing = await place.find();
    assertEquals([missing.code, text(missing.stdout).trim()], [0, ""]);
    assertEquals(place.names(), undefined);
    await place.write("env", "");
    const notYet = await place.find();
    assertEquals([notYet.code, text(notYet.stdout)], [0, ""]);
    assertEquals(await place.cluster.calls("squeue"), 1);
  },

  "findJobScript() finds a job whose directory is away": async (place) => {
    await place.submit();
    await Deno.rename(place.directory, `${place.cluster.root}/away`);
    assertEquals(text((await place.find()).stdout), "101\n");
    await place.cluster.fake("squeue.fails", "down");
    assertEquals((await place.find()).code, SUBMIT_EXIT.TRY_AGAIN);
  },

  "findJobScript() prints the id of the job there is": async (place) => {
    await place.submit();
    assertEquals(text((await place.find()).stdout), "101\n");
    await Deno.remove(join(place.directory, "jobid"));
    assertEquals(text((await place.find()).stdout), "101\n");
    assertEquals(await place.cluster.calls("squeue"), 1);
  },

  "findJobScript() fails when Slurm cannot say": async (place) => {
    await place.write("attempted", "");
    await place.cluster.fake("squeue.fails", "down");
    assertEquals((await place.find()).code, SUBMIT_EXIT.TRY_AGAIN);
  },

  "settleScript() keeps every later submission away when there is no job": async (place) => {
    for (let i = 0; i < 2; i++) {
      const settled = await place.settle();
      assertEquals([settled.code, text(settled.stdout).trim()], [0, ""]);
    }
    assertEquals((await place.submit()).code, SUBMIT_EXIT.STOPPED);
    assertEquals([await place.cluster.calls("sbatch"), text((await place.find()).stdout)], [0, ""]);
  },

  "settleScript() prints the id of the job there is and stops nothing": async (place) => {
    await place.submit();
    assertEquals(text((await place.settle()).stdout), "101\n");
    await Deno.remove(join(place.directory, "jobid"));
    assertEquals(text((await place.settle()).stdout), "101\n");
    assertEquals(namesIn(join(place.directory, "status")), []);
  },

  "settleScript() prints the id of the job that has the claim when another was submitted": async (
    place,
  ) => {
    await place.submit();
    await Deno.symlink("102", join(place.directory, "status/claim"));
    assertEquals(text((await place.settle()).stdout), "102\n");
    assertEquals(text((await place.find()).stdout), "102\n");
  },

  "settleScript() says what Slurm knows when no directory can be made": async (place) => {
    await Deno.mkdir(dirname(dirname(place.directory)), { recursive: true });
    await Deno.writeTextFile(dirname(place.directory), "in the way");
    assertEquals([(await place.settle()).code, text((await place.settle()).stdout).trim()], [
      0,
      "",
    ]);
    await place.cluster.fake("squeue.fails", "down");
    assertEquals((await place.settle()).code, SUBMIT_EXIT.TRY_AGAIN);
  },

  "settleScript() finds a job that came after it where there are no locks": async (place) => {
    await place.cluster.program("flock", "\nexit 71");
    await place.cluster.fake("sbatch.waits", "");
    const submitting = place.submit();
    await place.cluster.called("sbatch");
    assertEquals(text((await place.settle()).stdout).trim(), "");
    await place.cluster.fake("sbatch.waits");
    assertEquals(text((await submitting).stdout), "101\n");
    assertEquals(await Deno.readLink(join(place.directory, "status/claim")), "stopped");
    assertEquals(text((await place.settle()).stdout), "101\n");
  },

  "settleScript() and findJobScript() wait for a submission that is under way": async (place) => {
    await place.cluster.program("flock", `\nexec /usr/bin/flock "$@"`);
    await place.cluster.fake("sbatch.waits", "");
    const submitting = place.submit();
    await place.cluster.called("sbatch");
    const asked = [place.settle(), place.find()];
    await place.cluster.called("flock", 3);
    await place.cluster.fake("sbatch.waits");
    const found = await Promise.all(asked);
    assertEquals(found.map(({ stdout }) => text(stdout)), ["101\n", "101\n"]);
    assertEquals(text((await submitting).stdout), "101\n");
  },

  "settleScript() fails and stops nothing when Slurm cannot say": async (place) => {
    await place.write("attempted", "");
    await place.cluster.fake("squeue.fails", "down");
    assertEquals((await place.settle()).code, SUBMIT_EXIT.TRY_AGAIN);
    assertEquals(namesIn(join(place.directory, "status")), []);
  },
});
