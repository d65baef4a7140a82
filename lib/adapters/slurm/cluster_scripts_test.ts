import { assertEquals, assertStringIncludes } from "@std/assert";
import { dirname, join } from "@std/path";
import { pack } from "tar-stream";
import type { RunResult } from "../../executors/executor.ts";
import {
  cleanScript,
  endJobScript,
  findJobScript,
  imageDirectoryScript,
  killScript,
  landImageScript,
  postMortemScript,
  PROBE_SCRIPT,
  settleScript,
  SQUEUE_SCRIPT,
  SUBMIT_EXIT,
  submitScript,
  terminateScript,
} from "./cluster_scripts.ts";
import { TestCluster } from "./test_cluster.ts";

const SHELLS: readonly [string, ...string[]][] = [
  ["/bin/sh"],
  ["/usr/bin/dash"],
  ["/usr/bin/bash", "--posix"],
  ["/usr/bin/busybox", "sh"],
];

/** Quotes, spaces and whatever else a path may hold. */
const DIRECTORY = `a 'b' "c" $(touch x) \\ *?/s1/c1`;
const JOB_NAME = "multicri-c'1";

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

async function archive(files: Record<string, string>): Promise<Uint8Array> {
  const tar = pack();
  for (const [name, content] of Object.entries(files)) tar.entry({ name, mode: 0o600 }, content);
  tar.finalize();
  const chunks: BlobPart[] = [];
  for await (const chunk of tar) chunks.push(chunk as Uint8Array<ArrayBuffer>);
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}

class Place {
  readonly directory: string;

  constructor(readonly cluster: TestCluster) {
    this.directory = join(cluster.home, DIRECTORY);
  }

  async submit(environment: { name: string; value: string }[] = []): Promise<RunResult> {
    const stdin = await archive({
      "job.sh": `#!/bin/bash\n#SBATCH --job-name="${JOB_NAME}"\n`,
      env: "export A=1\n",
    });
    const { directory } = this;
    return await this.cluster.run(
      submitScript({ directory, jobName: JOB_NAME, optionNames: [], environment }),
      {
        stdin,
      },
    );
  }

  async find(): Promise<RunResult> {
    return await this.cluster.run(findJobScript(this.directory, JOB_NAME));
  }

  async settle(): Promise<RunResult> {
    return await this.cluster.run(settleScript(this.directory, JOB_NAME));
  }

  async write(name: string, content: string): Promise<void> {
    await Deno.mkdir(dirname(join(this.directory, name)), { recursive: true });
    await Deno.writeTextFile(join(this.directory, name), content);
  }

  /** Names in the container's directory; undefined when it is gone. */
  names(): string[] | undefined {
    return namesIn(this.directory);
  }
}

function namesIn(directory: string): string[] | undefined {
  try {
    return [...Deno.readDirSync(directory)].map(({ name }) => name).toSorted();
  } catch {
    return undefined;
  }
}

const CASES: Record<string, (place: Place) => Promise<void>> = {
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
    assertEquals([missing.code, text(missing.stdout)], [0, ""]);
    await place.write("env", "");
    const notYet = await place.find();
    assertEquals([notYet.code, text(notYet.stdout)], [0, ""]);
    assertEquals(await place.cluster.calls("squeue"), 0);
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
    assertStringIncludes(text((await place.cluster.run(SQUEUE_SCRIPT)).stdout), "101|CANCELLED|");
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
    assertStringIncludes(text((await place.cluster.run(SQUEUE_SCRIPT)).stdout), "101|CANCELLED|");
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

  "landImageScript() lands what arrived whole and removes what did not": async (place) => {
    const images = join(place.cluster.home, DIRECTORY);
    assertEquals((await place.cluster.run(imageDirectoryScript(images))).code, 0);
    const hash = new Uint8Array(
      await crypto.subtle.digest("SHA-256", new TextEncoder().encode("sif")),
    ).toHex();
    const [part, sif] = [join(images, "i.part"), join(images, "i.sif")];
    await place.write("i.part", "broken");
    assertEquals((await place.cluster.run(landImageScript(part, sif, hash))).code, 1);
    assertEquals(place.names(), []);
    await place.write("i.part", "sif");
    assertEquals((await place.cluster.run(landImageScript(part, sif, hash))).code, 0);
    assertEquals(place.names(), ["i.sif"]);
  },

  "imageDirectoryScript() removes uploads that broke off a day ago": async (place) => {
    await place.write("old.part", "");
    await place.write("new.part", "");
    await place.write("old.sif", "");
    const longAgo = new Date(Date.now() - 49 * 3600 * 1000);
    for (const name of ["old.part", "old.sif"]) {
      await Deno.utime(join(place.directory, name), longAgo, longAgo);
    }
    assertEquals((await place.cluster.run(imageDirectoryScript(place.directory))).code, 0);
    assertEquals(place.names(), ["new.part", "old.sif"]);
  },

  "PROBE_SCRIPT prints the home directory and what is missing": async (place) => {
    const whole = await place.cluster.run(PROBE_SCRIPT);
    assertEquals(text(whole.stdout), `${place.cluster.home}\0`);
    await Deno.remove(join(place.cluster.root, "bin/squeue"));
    await Deno.remove(join(place.cluster.root, "bin/scancel"));
    const partial = await place.cluster.run(PROBE_SCRIPT);
    assertEquals(text(partial.stdout), `${place.cluster.home}\0squeue scancel `);
  },
};

for (const shell of SHELLS) {
  const missing = await Deno.stat(shell[0]).then(() => false, () => true);
  for (const [name, run] of Object.entries(CASES)) {
    Deno.test({
      name: `${name} (${shell.join(" ")})`,
      ignore: missing,
      fn: async () => {
        await using cluster = await TestCluster.create(shell);
        await run(new Place(cluster));
      },
    });
  }
}
