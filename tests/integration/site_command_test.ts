/** `multicri site check` on the real cluster, as an administrator runs it on the node. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { KNODE_PATHS } from "../../scripts/lab/settings.ts";
import { Harness } from "./harness.ts";

const CLUSTERS_FILE = "/run/site-clusters.yml";
const ROOT_DIR = "/run/site-check";

let harness: Harness;
Deno.test.beforeAll(async () => {
  harness = await Harness.start({ name: "site" });
  const { host, user, password } = harness.lab.login;
  const login = { host, user, password };
  await Deno.writeTextFile(
    harness.lab.path("knode", CLUSTERS_FILE),
    JSON.stringify({ clusters: { lab: login, away: { ...login, port: 9 } } }),
    { mode: 0o600 },
  );
});
Deno.test.afterAll(() => harness?.stop());

async function check(clusters: string[], env: Record<string, string> = {}) {
  const { lab, server } = harness;
  const argv = [`${KNODE_PATHS.checkout}/scripts/multicri`, "site", "check", ...clusters];
  const flags = ["--clusters-file", CLUSTERS_FILE, "--root-dir", ROOT_DIR];
  const options = { env: { ...server.env, ...env }, timeoutMs: 200_000 };
  const result = await lab.exec("knode", [...argv, ...flags], options);
  assert(!(result.stdout + result.stderr).includes(lab.login.password));
  return result;
}

Deno.test("site check tells what a good cluster offers, and leaves nothing there", async () => {
  const { code, stdout, stderr } = await check(["lab"]);
  assertEquals([code, stderr], [0, ""], stdout);
  assert(!stdout.includes("missing"), stdout);
  for (
    const line of [
      /^lab: {2}ok {7}Slurm .*slurm\S* \d+\.\d+/m,
      /^lab: {2}ok {7}a job .* it ran on n[12], which sees the home directory$/m,
      /^lab: {2}ok {7}runtime .*\/usr\/bin\/apptainer, apptainer version 1\./m,
      /^lab: {2}ok {7}containers .*by user namespaces$/m,
      /^lab: {2}ok {7}images .*by squashfuse$/m,
      /^lab: {2}ok {7}commands in containers .*perl and srun --overlap are there$/m,
      /^lab: {2}ok {7}files .*after \d+(\.\d)? s$/m,
      /^lab: {2}ok {7}MPI .*\/usr\/bin\/mpirun; modules; srun --mpi \(.*pmi2.*\)$/m,
      /^lab: {2}limited {2}accounting .*accounting storage is disabled/m,
      /^lab: {2}limited {2}processes .*proctrack\/linuxproc/m,
    ]
  ) assertMatch(stdout, line);
  // Slurm takes a moment to end the job, which was cancelled.
  const gone =
    "timeout 30 sh -c 'while squeue -h --name=multicri-site-check | grep -q .; do sleep 0.1; done'";
  assertEquals(await harness.onCluster(`find multi-cri -name '.site-check*'; ${gone}`), "");
});

Deno.test("site check says what is missing, and what does not work without", async () => {
  const prerun =
    "mkdir -p /tmp/few; for t in bash cat date getconf ln mkfifo mv readlink realpath tail tr sed df awk " +
    "find cut mkdir sleep; do ln -sf $(type -P $t) /tmp/few/; done; PATH=/tmp/few";
  const { code, stdout } = await check(["lab"], { CLUSTER_CONFIG: prerun });
  assertEquals(code, 1, stdout);
  assertMatch(
    stdout,
    /missing {2}runtime .*neither apptainer nor singularity is in the node's PATH/,
  );
  assertMatch(stdout, /limited {2}commands in containers .*the node has no perl: no exec, attach/);
  assertMatch(stdout, /ok {7}MPI .* modules$/m);
});

Deno.test("site check says why its job does not run", async () => {
  const refused = await check(["lab"], { JOB_QUEUE: "nowhere" });
  assertEquals(refused.code, 1);
  assertMatch(refused.stdout, /missing {2}a job .*sbatch refuses it: .*invalid partition/);
});

Deno.test("site check says so when CLUSTER_CONFIG ends the job", async () => {
  const { code, stdout } = await check(["lab"], { CLUSTER_CONFIG: "cd /; echo oh no >&2; exit 3" });
  assertEquals(code, 1, stdout);
  assertMatch(stdout, /ok {7}a job .* it ran on n[12]/);
  assertMatch(stdout, /missing {2}prerun .*CLUSTER_CONFIG calls exit \(3\).*: oh no$/m);
  assert(!stdout.includes("commands in containers"), stdout);
});

Deno.test("site check says which cluster cannot be reached, and looks at the others", async () => {
  const { code, stdout } = await check(["away", "lab"]);
  assertEquals(code, 1);
  assertMatch(stdout, /^away: {2}missing {2}ssh .*refused/m);
  assertMatch(stdout, /^lab: {2}ok {7}a job/m);
  assertMatch(
    (await check(["unknown"])).stderr,
    /no login is known for that cluster, only for lab, away/,
  );
});
