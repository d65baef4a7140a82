import { assertEquals, assertStringIncludes } from "@std/assert";
import { dirname, join } from "@std/path";
import {
  cleanScript,
  killScript,
  postMortemScript,
  PROBE_SCRIPT,
  SQUEUE_SCRIPT,
  SUBMIT_EXIT,
  terminateScript,
} from "./cluster_scripts.ts";
import { endJobScript } from "./tagged_job_scripts.ts";
import { namesIn, testInShells, text } from "./test_scripts.ts";

testInShells({
  "endJobScript() waits until Slurm no longer has the job, and fails when it keeps it": async (
    place,
  ) => {
    await place.cluster.program("sleep", "");
    await place.submit();
    assertEquals((await place.cluster.run(endJobScript("101"))).code, 0);
    assertStringIncludes(await place.cluster.job("101") ?? "", "CANCELLED");
    await place.cluster.fake("jobs/101/line", "RUNNING|N/A|10|n1|None");
    assertEquals((await place.cluster.run(endJobScript("101"))).code, 1);
    assertEquals((await place.cluster.run(endJobScript("10"))).code, 0);
    await place.cluster.fake("squeue.fails", "down");
    assertEquals((await place.cluster.run(endJobScript("101"))).code, SUBMIT_EXIT.TRY_AGAIN);
  },

  "terminateScript() cancels a pending job": async (place) => {
    await place.submit();
    assertEquals((await place.cluster.run(terminateScript("101"))).code, 0);
    assertStringIncludes(
      text((await place.cluster.run(SQUEUE_SCRIPT)).stdout),
      "101|main|CANCELLED|",
    );
  },

  "terminateScript() sends TERM once to a running job": async (place) => {
    await place.submit();
    await place.cluster.fake("jobs/101/line", "RUNNING|N/A|10|n1|None");
    await place.cluster.fake("on_term", `printf 'term ' >>"$FAKE/signals"`);
    await place.cluster.run(terminateScript("101"));
    assertEquals(await Deno.readTextFile(join(place.cluster.root, "fake/signals")), "term ");
  },

  "killScript() kills and cancels": async (place) => {
    await place.submit();
    await place.cluster.fake("on_kill", `printf 'kill ' >>"$FAKE/signals"`);
    assertEquals((await place.cluster.run(killScript("101"))).code, 0);
    assertEquals(await Deno.readTextFile(join(place.cluster.root, "fake/signals")), "kill ");
    assertStringIncludes(
      text((await place.cluster.run(SQUEUE_SCRIPT)).stdout),
      "101|main|CANCELLED|",
    );
  },

  "postMortemScript() prints three parts": async (place) => {
    await place.submit();
    await place.cluster.fake("jobs/101/scontrol", "JobId=101 JobState=TIMEOUT ExitCode=0:15\n");
    await place.cluster.fake("sacct", "TIMEOUT|0:15\n");
    await place.write("slurm.log", "slurmstepd: error: late\n");
    const result = await place.cluster.run(postMortemScript(place.directory, "101"));
    assertEquals(
      [result.code, text(result.stdout)],
      [
        0,
        "JobId=101 JobState=TIMEOUT ExitCode=0:15\n--\nTIMEOUT|0:15\n--\nslurmstepd: error: late\n",
      ],
    );
  },

  "postMortemScript() prints empty parts when nobody knows the job": async (place) => {
    const result = await place.cluster.run(postMortemScript(place.directory, "101"));
    assertEquals([result.code, text(result.stdout)], [0, "\n--\n--\n"]);
  },

  "postMortemScript() fails when the controller does not answer": async (place) => {
    await place.cluster.fake("scontrol.fails", "slurm_load_jobs error: Unable to contact\n");
    const result = await place.cluster.run(postMortemScript(place.directory, "101"));
    assertEquals(result.code, SUBMIT_EXIT.TRY_AGAIN);
    assertStringIncludes(text(result.stderr), "Unable to contact");
  },

  "cleanScript() keeps results and removes everything else": async (place) => {
    await place.submit();
    await place.write("results/out.txt", "kept");
    for (const name of ["stdout", "stderr", "slurm.log", "prerun.sh", "status/exit"]) {
      await place.write(name, "x");
    }
    assertEquals((await place.cluster.run(cleanScript(place.directory))).code, 0);
    assertEquals(place.names(), ["results"]);
    assertEquals(await Deno.readTextFile(join(place.directory, "results/out.txt")), "kept");
  },

  "cleanScript() removes the directories too when there are no results": async (place) => {
    await place.submit();
    assertEquals((await place.cluster.run(cleanScript(place.directory))).code, 0);
    assertEquals((await place.cluster.run(cleanScript(place.directory))).code, 0);
    assertEquals(place.names(), undefined);
    assertEquals(await place.cluster.stat(dirname(place.directory)), undefined);
    assertEquals((await place.cluster.stat(dirname(dirname(place.directory)))) !== undefined, true);
  },

  "cleanScript() leaves the sandbox's directory while another container uses it": async (place) => {
    await place.submit();
    await Deno.mkdir(join(dirname(place.directory), "c2"));
    await place.cluster.run(cleanScript(place.directory));
    assertEquals(namesIn(dirname(place.directory)), ["c2"]);
  },

  "PROBE_SCRIPT prints the home directory and what is missing": async (place) => {
    const whole = await place.cluster.run(PROBE_SCRIPT);
    assertEquals(text(whole.stdout), `${place.cluster.home}\0`);
    await Deno.remove(join(place.cluster.root, "bin/squeue"));
    await Deno.remove(join(place.cluster.root, "bin/scancel"));
    const partial = await place.cluster.run(PROBE_SCRIPT);
    assertEquals(text(partial.stdout), `${place.cluster.home}\0squeue scancel `);
  },
});
