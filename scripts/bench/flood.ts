import { delay } from "@std/async/delay";
import { basename, dirname } from "@std/path";
import { writeStdoutLine } from "../../lib/base/log.ts";
import { ContainerState } from "../../lib/cri/api.generated.ts";
import type { Lab } from "../lab/lab.ts";
import { runOk } from "../lab/process.ts";
import { type BenchJob, SlurmBench } from "./slurm_jobs.ts";

/** What one job writes as fast as it can. */
const FLOOD_MEBIBYTES = 10 * 1024;
const LINE = "0123456789".repeat(10);
/** As a kubelet looks at logs by default, and how many files it keeps of one (containerLogMaxFiles). */
const ROTATION_MS = 10_000;
const KEPT_FILES = 5;
const LOOK_MS = 500;

/** What a job that floods its log takes of the node's memory and disk, its log being rotated as by a kubelet. */
export async function benchFlood(lab: Lab): Promise<void> {
  const bench = await SlurmBench.start(lab, "flood");
  try {
    const script = `yes "${LINE}" | head -c ${FLOOD_MEBIBYTES * 1024 * 1024}`;
    const before = await bench.server.memoryMebibytes();
    const begun = performance.now();
    const [job] = await bench.run(1, script);
    if (job === undefined) throw new Error("No job was started.");
    const most = { memory: 0, disk: 0 };
    let rotatedAt = performance.now();
    let rotations = 0;
    let lines = 0;
    while (
      (await bench.client.status(job.containerId)).state === ContainerState.CONTAINER_RUNNING
    ) {
      most.memory = Math.max(most.memory, await bench.server.memoryMebibytes());
      most.disk = Math.max(most.disk, (await logFiles(job)).mebibytes);
      await delay(LOOK_MS);
      if (performance.now() - rotatedAt < ROTATION_MS) continue;
      rotatedAt = performance.now();
      await Deno.rename(job.logPath, `${job.logPath}.${String(++rotations).padStart(4, "0")}`);
      await bench.client.call("reopenContainerLog", { containerId: job.containerId });
      const { paths } = await logFiles(job);
      for (const path of paths.slice(0, -KEPT_FILES)) {
        lines += await floodLines(path);
        await Deno.remove(path);
      }
    }
    const seconds = (performance.now() - begun) / 1000;
    for (const path of (await logFiles(job)).paths) lines += await floodLines(path);
    const written = Math.ceil(FLOOD_MEBIBYTES * 1024 * 1024 / (LINE.length + 1));
    writeStdoutLine(
      `a job that writes ${FLOOD_MEBIBYTES} MiB at once: ${
        seconds.toFixed(0)
      } s to its end with ${rotations} rotations; ${lines} of ${written} lines came; ` +
        `the server's memory ${before} MiB before, ${most.memory} MiB at most; logs ${most.disk} MiB at most`,
    );
  } finally {
    await bench.stop();
  }
}

/** The container's log files, oldest first, and their sizes together. */
async function logFiles({ logPath }: BenchJob): Promise<{ paths: string[]; mebibytes: number }> {
  const paths: string[] = [];
  let bytes = 0;
  for await (const { name } of Deno.readDir(dirname(logPath))) {
    if (!name.startsWith(basename(logPath))) continue;
    const path = `${dirname(logPath)}/${name}`;
    paths.push(path);
    bytes += (await Deno.stat(path)).size;
  }
  // The file without a suffix is the newest.
  const rotated = paths.filter((path) => path !== logPath).toSorted();
  return { paths: [...rotated, logPath], mebibytes: Math.round(bytes / 1024 / 1024) };
}

/** The program's lines in a log. */
async function floodLines(path: string): Promise<number> {
  return Number(await runOk(["grep", "-c", " stdout [FP] 0123", path]));
}
