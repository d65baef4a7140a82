import { writeStdoutLine } from "../../lib/base/log.ts";
import type { Lab } from "../lab/lab.ts";
import { costAMinute, describeCost } from "./cost.ts";
import { SlurmBench } from "./slurm_jobs.ts";

/** Jobs that run and write nothing. */
const JOBS = 10;
const COST_MS = 60_000;

/** What a server costs that has nothing to do: connected to its cluster, without jobs and with silent ones. */
export async function benchIdle(lab: Lab): Promise<void> {
  const bench = await SlurmBench.start(lab, "benchidle");
  const tellCost = async (what: string) => {
    writeStdoutLine(`${what}, ${describeCost(await costAMinute(lab, bench.server, COST_MS))}`);
  };
  try {
    await tellCost("never connected");
    await bench.run(1, "exit 0");
    await tellCost("connected, no job");
    await bench.run(JOBS);
    await tellCost(`${JOBS} silent jobs`);
  } finally {
    await bench.stop();
  }
}
