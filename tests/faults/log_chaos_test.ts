/**
 * Logs of many jobs while the server is killed, connections are cut and logs are rotated: what is in them is what the
 * programs wrote, whichever way the jobs are followed. MULTICRI_CHAOS_JOBS and MULTICRI_CHAOS_SECONDS make it larger.
 */
import { assertEquals } from "@std/assert";
import { concat } from "@std/bytes/concat";
import { delay } from "@std/async/delay";
import { basename, dirname, join } from "@std/path";
import { writeStdoutLine } from "../../lib/base/log.ts";
import { randomSource, seedFor } from "../../wasm/test_random.ts";
import { CriClient } from "../cri_client.ts";
import { Harness } from "../integration/harness.ts";

const JOBS = Number(Deno.env.get("MULTICRI_CHAOS_JOBS") ?? 12);
const SECONDS = Number(Deno.env.get("MULTICRI_CHAOS_SECONDS") ?? 20);

/** Many programs on few cores write more seldom. */
const PAUSE_S = Math.max(0.2, JOBS / 50);

/**
 * Writes bytes of all kinds, long lines, pieces of lines and bursts, the same into files that are the truth, until it
 * is told to stop. The last line is a whole one, because a log does not tell.
 */
const SCRIPT = `
cd "$MULTICRI_RESULTS_DIR"
out() { tee -a out; }
err() { tee -a err >&2; }
until [ -e stop ]; do
  head -c 3000 /dev/urandom | out
  tr -d '\\n' </dev/urandom | head -c 40000 | err
  sleep ${PAUSE_S}
  printf 'a line in' | out
  echo 'to stderr' | err
  sleep ${PAUSE_S}
  echo ' two pieces' | out
  seq 1 2000 | out
done
echo last | out
echo last | err
exit 3`;

interface Job {
  pod: string;
  container: string;
  resultsPath: string;
  logPath: string;
}

/** What a container's logs, the rotated ones first, hold of a stream. */
async function logged(job: Job, stream: "stdout" | "stderr"): Promise<Uint8Array> {
  const folder = dirname(job.logPath);
  const names: string[] = [];
  for await (const { name } of Deno.readDir(folder)) {
    if (name.startsWith(`${basename(job.logPath)}.`)) names.push(name);
  }
  names.sort();
  const parts: Uint8Array[] = [];
  const newline = new Uint8Array([10]);
  for (const path of [...names.map((name) => join(folder, name)), job.logPath]) {
    const bytes = await Deno.readFile(path);
    for (let start = 0; start < bytes.length;) {
      const end = bytes.indexOf(10, start);
      const head = new TextDecoder("latin1").decode(bytes.subarray(start, start + 64));
      const match = /^\S+ (stdout|stderr) ([FP]) (multicri: )?/.exec(head);
      if (match === null || end === -1) throw new Error(`${path} is torn at ${start}: ${head}`);
      if (match[1] === stream && !(match[3] && stream === "stderr")) {
        const textAt = start + match[0].length - (match[3]?.length ?? 0);
        parts.push(bytes.subarray(textAt, end), ...(match[2] === "F" ? [newline] : []));
      }
      start = end + 1;
    }
  }
  return concat(parts);
}

async function checksum(bytes: Uint8Array): Promise<string> {
  return `${bytes.length} bytes, ${
    new Uint8Array(await crypto.subtle.digest("SHA-256", new Uint8Array(bytes))).toHex()
  }`;
}

/** Kills the processes of the login host that serve the user's connections. */
async function cutConnections({ lab }: Harness): Promise<void> {
  const { stdout } = await lab.exec("ctl", ["ps", "-u", lab.login.user, "-o", "pid=,args="]);
  const pids = stdout.split("\n").map((line) => line.trim().split(/\s+/))
    .filter(([, program]) => program?.startsWith("sshd")).map(([pid]) => pid ?? "");
  if (pids.length > 0) await lab.exec("ctl", ["kill", "-KILL", ...pids]);
}

let rotations = 0;

/** As a kubelet: a log that cannot be reopened gets its name back. */
async function rotate(harness: Harness, { container, logPath }: Job): Promise<void> {
  const rotated = `${logPath}.${String(++rotations).padStart(4, "0")}`;
  await Deno.rename(logPath, rotated);
  const cri = new CriClient(harness.lab.path("knode", harness.server.socketPath));
  await cri.call("reopenContainerLog", { containerId: container }).catch(async () => {
    const reopened = await Deno.stat(logPath).then(() => true, () => false);
    if (!reopened) await Deno.rename(rotated, logPath);
  }).finally(() => cri.close());
}

for (const follow of ["files", "node"]) {
  Deno.test(`logs hold what programs wrote when servers, connections and logs come and go and CRI_SLURM_FOLLOW is ${follow}`, () =>
    chaos(follow));
}

async function chaos(follow: string): Promise<void> {
  const harness = await Harness.start({ name: "logchaos", env: { CRI_SLURM_FOLLOW: follow } });
  const { lab, server } = harness;
  const random = randomSource(seedFor("log chaos"));
  try {
    const jobs: Job[] = [];
    for (let made = 0; made < JOBS; made++) {
      const job = await harness.run({ command: ["/bin/sh", "-c", SCRIPT] });
      const { info, status } = await harness.inspect(job.container);
      const directory = info.slurm.directory?.replace(`/home/${lab.login.user}`, lab.homePath);
      jobs.push({
        ...job,
        resultsPath: `${directory}/results`,
        logPath: lab.path("knode", status.logPath),
      });
    }
    for (const { container } of jobs) await harness.running(container);
    const done = { kills: 0, cuts: 0, rotations: 0 };
    const until = performance.now() + SECONDS * 1000;
    while (performance.now() < until) {
      await delay(random.below(1_000));
      switch (random.below(3)) {
        case 0: {
          // In every second case while logs are being rotated.
          const rotating = random.below(2) === 0 ? rotate(harness, random.pick(jobs)) : undefined;
          await delay(random.below(20));
          await server.kill();
          await rotating;
          await server.start();
          done.kills++;
          break;
        }
        case 1:
          await cutConnections(harness);
          done.cuts++;
          break;
        default:
          await rotate(harness, random.pick(jobs));
          done.rotations++;
      }
    }
    writeStdoutLine(`${JOBS} jobs: ${JSON.stringify(done)}`);
    for (const { resultsPath } of jobs) await Deno.writeTextFile(`${resultsPath}/stop`, "");
    for (const job of jobs) {
      const { status } = await harness.exited(job.container);
      assertEquals(status.exitCode, 3);
      for (const [stream, file] of [["stdout", "out"], ["stderr", "err"]] as const) {
        const wrote = await Deno.readFile(join(job.resultsPath, file));
        assertEquals(
          await checksum(await logged(job, stream)),
          await checksum(wrote),
          `${stream} of ${job.container} after ${JSON.stringify(done)}`,
        );
      }
      await Deno.remove(job.resultsPath, { recursive: true });
      await Deno.mkdir(job.resultsPath);
      await harness.removeCleanly(job);
    }
  } finally {
    await harness.stop();
  }
}
