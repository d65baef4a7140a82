import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { CriError } from "../../base/error.ts";
import { ClusterAccount } from "./account.ts";
import { findJob, settleJob, type Submission, submitJob } from "./submit.ts";
import { TestCluster } from "./test_cluster.ts";

const JOB_NAME = "multicri-c1";

function place(cluster: TestCluster) {
  const directory = join(cluster.home, "multi-cri/s1/c1");
  const account = new ClusterAccount(cluster.session, {
    mountPath: "multi-cri",
    imageRemoteMount: undefined,
  }, cluster.lines);
  const files = { "job.sh": `#!/bin/bash\n#SBATCH --job-name="${JOB_NAME}"\n`, env: "# ünï\n" };
  const entries = Object.entries(files).map(([name, content]) => ({
    kind: "file" as const,
    name,
    mode: 0o600,
    content,
  }));
  return {
    directory,
    submit: () =>
      submitJob(
        account,
        { name: JOB_NAME, optionNames: [], viaArgv: [], directory, entries, made: [] },
        [],
      ),
    find: () => findJob(account, directory, JOB_NAME),
    settle: () => settleJob(account, directory, JOB_NAME),
  };
}

Deno.test("submitJob() brings the files and returns the id, once for all calls", async () => {
  await using cluster = await TestCluster.create();
  const { submit, find, directory } = place(cluster);
  assertEquals(await find(), undefined);
  const submitted = { kind: "submitted", jobId: "101" } as const;
  assertEquals([await submit(), await submit(), await find()], [submitted, submitted, "101"]);
  assertEquals(await cluster.calls("sbatch"), 1);
  assertEquals(await Deno.readTextFile(join(directory, "env")), "# ünï\n");
});

/** The error of an answer that there is no job, and will be none. */
async function refusal(submission: Promise<Submission>): Promise<CriError> {
  const answer = await submission;
  if (answer.kind !== "refused") throw new Error(`submitted ${answer.jobId}`);
  return answer.error;
}

function assertWords(error: CriError, words: string): void {
  assertStringIncludes(error.message, words.trim().split("sbatch: error: ").at(-1) ?? "");
  assertEquals(error.message.includes("\n"), false);
}

const REFUSALS: readonly string[] = [
  "sbatch: error: invalid partition specified: none\n" +
  "sbatch: error: Batch job submission failed: Invalid partition name specified\n",
  "sbatch: error: Batch job submission failed: Access denied\n",
];

for (const words of REFUSALS) {
  Deno.test(`submitJob() answers INVALID_ARGUMENT when sbatch says ${JSON.stringify(words)}`, async () => {
    await using cluster = await TestCluster.create();
    await cluster.fake("sbatch.fails", words);
    const error = await refusal(place(cluster).submit());
    assertEquals(error.code, "INVALID_ARGUMENT");
    assertWords(error, words);
  });
}

const SILENCES: readonly [words: string, code: string][] = [
  ["sbatch: error: Batch job submission failed: Unable to contact slurm controller\n", "UNKNOWN"],
  ["sbatch: error: Batch job submission failed: Socket timed out on send/recv\n", "UNKNOWN"],
  ["sbatch: error: slurm_receive_msg: Zero Bytes were transmitted or received\n", "UNKNOWN"],
  [
    "sbatch: error: Batch job submission failed: Slurm temporarily unable to accept job, sleeping\n",
    "UNKNOWN",
  ],
];

for (const [words, code] of SILENCES) {
  Deno.test(`submitJob() throws ${code} when sbatch says ${JSON.stringify(words)}`, async () => {
    await using cluster = await TestCluster.create();
    await cluster.fake("sbatch.fails", words);
    const error = await assertRejects(place(cluster).submit, CriError);
    assertEquals(error.code, code);
    assertWords(error, words);
  });
}

Deno.test("submitJob() answers FAILED_PRECONDITION when the files cannot be written", async () => {
  await using cluster = await TestCluster.create();
  await Deno.writeTextFile(join(cluster.home, "multi-cri"), "in the way");
  const error = await refusal(place(cluster).submit());
  assertStringIncludes(error.message, "Cannot write the job's files");
  assertEquals(error.code, "FAILED_PRECONDITION");
});

Deno.test("submitJob() answers FAILED_PRECONDITION when the container was settled before", async () => {
  await using cluster = await TestCluster.create();
  const { submit, settle, find } = place(cluster);
  assertEquals(await settle(), undefined);
  const error = await refusal(submit());
  assertStringIncludes(error.message, "stopped before its job was submitted");
  assertEquals([error.code, await find()], ["FAILED_PRECONDITION", undefined]);
  assertEquals(await cluster.calls("sbatch"), 0);
});

Deno.test("settleJob() gives the job there is, and stops none", async () => {
  await using cluster = await TestCluster.create();
  const { submit, settle, find } = place(cluster);
  await submit();
  assertEquals([await settle(), await find()], ["101", "101"]);
});

Deno.test("submitJob() throws UNKNOWN when a first try cannot be looked up", async () => {
  await using cluster = await TestCluster.create();
  const { submit } = place(cluster);
  await cluster.fake("sbatch.dies", "");
  assertEquals((await assertRejects(submit, CriError, "was killed")).code, "UNKNOWN");
  await cluster.fake("squeue.fails", "slurm_load_jobs error: gone\n");
  const error = await assertRejects(submit, CriError, "slurm_load_jobs error: gone");
  assertEquals(error.code, "UNKNOWN");
});

Deno.test("submitJob() throws INTERNAL when sbatch prints no id", async () => {
  await using cluster = await TestCluster.create();
  await cluster.program("sbatch", "\necho Submitted");
  const error = await assertRejects(place(cluster).submit, CriError, '"Submitted"');
  assertEquals(error.code, "INTERNAL");
});

Deno.test("findJob() throws UNAVAILABLE when Slurm does not answer", async () => {
  await using cluster = await TestCluster.create();
  const { submit, find, directory } = place(cluster);
  await submit();
  await Deno.remove(join(directory, "jobid"));
  await cluster.fake("squeue.fails", "gone\n");
  const error = await assertRejects(find, CriError, "Slurm on u@login:22 does not answer: gone");
  assertEquals(error.code, "UNAVAILABLE");
});
