import { delay } from "@std/async/delay";
import { dirname } from "@std/path";
import type { Lab } from "../lab/lab.ts";
import { LOGIN_USER } from "../lab/login.ts";
import { runOk } from "../lab/process.ts";
import { compare } from "./samples.ts";
import { SlurmBench } from "./slurm_jobs.ts";

/** Of each way. */
const TIMES = 40;
const POLL_MS = 5;
/** The program's first act; the file's time is the one that counts. */
const PROGRAM = ': >"$MULTICRI_RESULTS_DIR/first"';
const FIRST_TIMEOUT_MS = 60_000;

/**
 * From StartContainer to the first instruction in the container, beside what a user does by hand: sbatch of the same
 * container over an OpenSSH connection that is kept.
 */
export async function benchStart(lab: Lab): Promise<void> {
  const bench = await SlurmBench.start(lab, "benchstart");
  try {
    await bench.connect();
    const [example] = await bench.run(1);
    if (example === undefined) throw new Error("No job was started.");
    const script = await Deno.readTextFile(`${dirname(example.stdoutPath)}/job.sh`);
    const assignment = (name: string) =>
      new RegExp(`^${name}=.*$`, "m").exec(script)?.[0] ?? `${name}=`;
    const words = ["multicri_directory", "multicri_image", "multicri_runtime_arguments"]
      .map(assignment).join("\n");
    const byHand = async () => {
      const directory = await Deno.makeTempDir({ dir: lab.homePath, prefix: "byhand-" });
      const inLab = `/home/${lab.login.user}/${directory.slice(lab.homePath.length + 1)}`;
      await runOk(["chown", `${LOGIN_USER.uid}:${LOGIN_USER.uid}`, directory]);
      const job = `#!/bin/bash
#SBATCH --output=/dev/null
${words}
export APPTAINERENV_MULTICRI_RESULTS_DIR=/.multicri/results
exec apptainer --silent exec "\${multicri_runtime_arguments[@]/#$multicri_directory\\/results:/${inLab}:}" \\
  "$multicri_image" /bin/sh -c '${PROGRAM}'
`;
      const [program = "", ...args] = bench.ssh("sbatch", "--parsable");
      const beganMs = Date.now();
      await runOk([program, ...args], { stdin: job });
      const ms = await firstMs(`${directory}/first`) - beganMs;
      await Deno.remove(directory, { recursive: true });
      return ms;
    };
    const byMulticri = async () => {
      const { pod, id } = await bench.create(PROGRAM);
      const beganMs = Date.now();
      await bench.client.call("startContainer", { containerId: id });
      const directory = `${lab.homePath}/multi-cri/${pod.id}/${id}`;
      const ms = await firstMs(`${directory}/results/first`) - beganMs;
      await bench.client.exited(id);
      await bench.client.call("removePodSandbox", { podSandboxId: pod.id });
      await Deno.remove(dirname(directory), { recursive: true });
      return ms;
    };
    await compare("start to the first instruction", [
      { name: "ssh+sbatch", run: byHand },
      { name: "multicri", run: byMulticri },
    ], { times: TIMES, parallel: 1 });
  } finally {
    await bench.stop();
  }
}

/** When the file was made. @throws Error when it is not there in time. */
async function firstMs(path: string): Promise<number> {
  const deadline = performance.now() + FIRST_TIMEOUT_MS;
  while (performance.now() < deadline) {
    const made = await Deno.stat(path).then(({ mtime }) => mtime, () => null);
    if (made !== null) return made.getTime();
    await delay(POLL_MS);
  }
  throw new Error(`The program did not begin: there is no ${path}.`);
}
