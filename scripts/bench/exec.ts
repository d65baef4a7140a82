import { delay } from "@std/async/delay";
import { writeStdoutLine } from "../../lib/base/log.ts";
import type { Lab } from "../lab/lab.ts";
import { runOk } from "./run_ok.ts";
import { compare, quantile } from "./samples.ts";
import { type BenchJob, SlurmBench } from "./slurm_jobs.ts";

/** Jobs that are followed, write and are probed. */
const JOBS = 20;
const PROBES_PER_SECOND = 50;
const PROBE_MS = 20_000;

/** What a probe's caller waits, as a kubelet with a patient probe. */
const PROBE_TIMEOUT_S = 30;

/** Commands in a container, beside `ssh … srun --overlap` over a connection that is kept; and probes beside logs. */
export async function benchExec(lab: Lab): Promise<void> {
  const bench = await SlurmBench.start(lab, "benchexec");
  try {
    await bench.connect();
    const jobs = await bench.run(JOBS);
    const [first] = jobs;
    if (first === undefined) throw new Error("No job was started.");
    const { containerId, jobId, host } = first;
    const srun = [
      "srun",
      "--quiet",
      "--overlap",
      `--jobid=${jobId}`,
      `--nodelist=${host}`,
      "-n1",
      "true",
    ];
    for (const parallel of [1, 4]) {
      await compare("exec of true", [
        { name: "ssh+srun", run: () => runOk(bench.ssh(...srun)) },
        {
          name: "multicri",
          run: () =>
            bench.client.call("execSync", { containerId, cmd: ["true"], timeout: PROBE_TIMEOUT_S }),
        },
      ], { times: 100, parallel });
    }
    await probes(bench, jobs);
  } finally {
    await bench.stop();
  }
}

/** As many probes a second as asked for, whether the earlier ones have ended or not. */
async function probes(bench: SlurmBench, jobs: BenchJob[]): Promise<void> {
  const samples: number[] = [];
  const failures = new Map<string, number>();
  const begun = performance.now();
  const calls: Promise<void>[] = [];
  let writing = true;
  const writers = jobs.map(async ({ stdoutPath }) => {
    using file = await Deno.open(stdoutPath, { append: true });
    while (writing) {
      await file.write(new TextEncoder().encode("a line beside probes\n"));
      await delay(200);
    }
  });
  const count = PROBES_PER_SECOND * PROBE_MS / 1000;
  for (let made = 0; made < count; made++) {
    await delay(Math.max(0, begun + made * 1000 / PROBES_PER_SECOND - performance.now()));
    const containerId = jobs[made % jobs.length]?.containerId ?? "";
    const from = performance.now();
    calls.push(
      bench.client.call("execSync", { containerId, cmd: ["true"], timeout: PROBE_TIMEOUT_S }).then(
        () => void samples.push(performance.now() - from),
        (error) => void failures.set(error.details, (failures.get(error.details) ?? 0) + 1),
      ),
    );
  }
  await Promise.all(calls);
  const seconds = (performance.now() - begun) / 1000;
  writing = false;
  await Promise.all(writers);
  writeStdoutLine(
    `${PROBES_PER_SECOND} probes a second beside ${jobs.length} jobs that write: ${samples.length} of ${count} ` +
      `answered in ${seconds.toFixed(1)} s, ms p50 ${quantile(samples, 0.5).toFixed(0)} p99 ${
        quantile(samples, 0.99).toFixed(0)
      }`,
  );
  for (const [words, times] of failures) writeStdoutLine(`${times} × ${words}`);
}
