import { delay } from "@std/async/delay";
import { writeStdoutLine } from "../../lib/base/log.ts";
import { MAX_STREAMS } from "../../lib/adapters/slurm/stream_lines.ts";
import type { Lab } from "../lab/lab.ts";
import { quantile } from "./samples.ts";
import { type BenchJob, SlurmBench } from "./slurm_jobs.ts";

/** Jobs that are followed at once. */
const JOBS = 100;

/** How long lines are written, and how often by each job. */
const LATENCY_MS = 20_000;
const LINE_INTERVAL_MS = 1_000;

/** What one job writes, and in which lines. */
const BULK_BYTES = 400 * 1024 * 1024;
const LINE = `${"0123456789".repeat(10)}\n`;
/** Each way in turns, so that the machine's moods hit both alike. */
const BULK_TURNS = 3;

/** How late and how fast jobs' output comes into their logs, beside `ssh … tail -f` of the same files. */
export async function benchLogs(lab: Lab): Promise<void> {
  const bench = await SlurmBench.start(lab, "benchlog", ["--max-log-bytes", "0"]);
  try {
    await bench.connect();
    const [first] = await bench.run(1);
    if (first === undefined) throw new Error("No job was started.");
    await latencies(bench, [first], "1 job");
    await throughput(bench, first);
    const jobs = [first, ...await bench.run(JOBS - 1)];
    await latencies(bench, jobs, `${JOBS} jobs`);
    const bulk = writeSlowly(first, 50 * 1024 * 1024, LATENCY_MS);
    await latencies(bench, jobs.slice(1), `${JOBS - 1} jobs while one writes 50 MiB/s`);
    await bulk;
  } finally {
    await bench.stop();
  }
  await onNodes(lab);
}

/** The same of jobs that are followed by steps on their nodes. */
async function onNodes(lab: Lab): Promise<void> {
  const flags = ["--max-log-bytes", "0"];
  const bench = await SlurmBench.start(lab, "benchnode", flags, { CRI_SLURM_FOLLOW: "node" });
  try {
    await bench.connect();
    const jobs = await bench.run(MAX_STREAMS.follow);
    // Slurm is asked every five seconds which jobs run.
    await delay(10_000);
    await latencies(bench, jobs, `${jobs.length} jobs followed on their nodes`);
    const [first] = jobs;
    if (first !== undefined) await throughput(bench, first);
  } finally {
    await bench.stop();
  }
}

/** Writes lines into the jobs' files as their programs would, and looks when they are in their logs. */
async function latencies(bench: SlurmBench, jobs: BenchJob[], what: string): Promise<void> {
  const [first] = jobs;
  if (first === undefined) return;
  const samples: number[] = [];
  const note = (text: string, into: number[]) => {
    for (const [, sentAt] of text.matchAll(/bench:(\d+\.\d+)\n/g)) {
      into.push(performance.now() - Number(sentAt));
    }
  };
  const tails = [["tail -f"], ["tail -f, polling", "---disable-inotify"]].map(
    ([name = "", ...options]) => {
      const found: number[] = [];
      const path = clusterPath(bench, first);
      const tail = new Follower(bench.ssh("tail", "-n", "0", ...options, "-f", path));
      tail.onText = (text) => note(text, found);
      return { name, found, tail };
    },
  );
  await delay(1_000);
  const logs = new LogReader(jobs.map(({ logPath }) => logPath), (text) => note(text, samples));
  const until = performance.now() + LATENCY_MS;
  const writers = jobs.map(async ({ stdoutPath }, index) => {
    using file = await Deno.open(stdoutPath, { append: true });
    await delay(index * LINE_INTERVAL_MS / jobs.length);
    let lines = 0;
    for (; performance.now() < until; lines++) {
      await file.write(new TextEncoder().encode(`bench:${performance.now().toFixed(3)}\n`));
      // By chance, so that writers and readers fall into no step.
      await delay(LINE_INTERVAL_MS * (0.5 + Math.random()));
    }
    return lines;
  });
  const written = (await Promise.all(writers)).reduce((sum, lines) => sum + lines, 0);
  await delay(3_000);
  await logs.stop();
  for (const { tail } of tails) await tail.stop();
  const show = (name: string, found: number[]) =>
    `${name} p50 ${quantile(found, 0.5).toFixed(0)} p99 ${quantile(found, 0.99).toFixed(0)} max ${
      Math.max(...found).toFixed(0)
    }`;
  writeStdoutLine(
    `latency in ms of ${what}, ${samples.length} of ${written} lines: ${
      show("multicri", samples)
    }; ` +
      tails.map(({ name, found }) => `${show(name, found)} (${found.length} lines)`).join("; "),
  );
}

async function throughput(bench: SlurmBench, job: BenchJob): Promise<void> {
  const rates = { multicri: [] as number[], tail: [] as number[] };
  const mebibytes = BULK_BYTES / 1024 / 1024;
  const bytes = new TextEncoder().encode(LINE.repeat(Math.ceil(1024 * 1024 / LINE.length)));
  const marker = /stdout F end (\d)\n/;
  for (let turn = 0; turn < BULK_TURNS; turn++) {
    const end = Promise.withResolvers<void>();
    let last = "";
    const log = new LogReader([job.logPath], (text) => {
      last = (last + text).slice(-100);
      if (marker.exec(last)?.[1] === String(turn)) end.resolve();
    });
    let begun = performance.now();
    using file = await Deno.open(job.stdoutPath, { append: true });
    const before = (await file.stat()).size;
    for (let written = 0; written < BULK_BYTES; written += bytes.length) {
      await writeAll(file, bytes);
    }
    await writeAll(file, new TextEncoder().encode(`end ${turn}\n`));
    await end.promise;
    rates.multicri.push(mebibytes * 1000 / (performance.now() - begun));
    await log.stop();
    begun = performance.now();
    const path = clusterPath(bench, job);
    const tail = new Follower(bench.ssh("tail", "-c", `+${before + 1}`, "-f", path));
    const tailEnd = Promise.withResolvers<void>();
    let tailLast = "";
    tail.onText = (text) => {
      tailLast = (tailLast + text).slice(-100);
      if (tailLast.includes(`end ${turn}\n`)) tailEnd.resolve();
    };
    await tailEnd.promise;
    rates.tail.push(mebibytes * 1000 / (performance.now() - begun));
    await tail.stop();
    await Deno.truncate(job.logPath).catch(() => {});
  }
  const [multicri, tail] = [quantile(rates.multicri, 0.5), quantile(rates.tail, 0.5)];
  writeStdoutLine(
    `one job's ${mebibytes} MiB in lines of ${LINE.length} bytes: multicri ${
      multicri.toFixed(0)
    } MiB/s, ` +
      `tail -f ${tail.toFixed(0)} MiB/s, ratio ${(multicri / tail).toFixed(2)}`,
  );
}

/** Writes at a rate for a time. */
async function writeSlowly(job: BenchJob, bytesPerSecond: number, ms: number): Promise<void> {
  const piece = new TextEncoder().encode(
    LINE.repeat(Math.floor(bytesPerSecond / 20 / LINE.length)),
  );
  using file = await Deno.open(job.stdoutPath, { append: true });
  const begun = performance.now();
  for (let pieces = 0; performance.now() < begun + ms; pieces++) {
    await writeAll(file, piece);
    await delay(Math.max(0, begun + (pieces + 1) * 50 - performance.now()));
  }
}

async function writeAll(file: Deno.FsFile, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
}

/** The job's file as the cluster names it. */
function clusterPath({ lab }: SlurmBench, { stdoutPath }: BenchJob): string {
  return stdoutPath.replace(lab.homePath, `/home/${lab.login.user}`);
}

/** Reads what is appended to logs, as soon as the kernel tells of it. */
class LogReader {
  readonly #watcher: Deno.FsWatcher;
  readonly #loop: Promise<void>;

  constructor(paths: readonly string[], onText: (text: string) => void) {
    this.#watcher = Deno.watchFs([...paths], { recursive: false });
    this.#loop = this.#run(paths, onText);
  }

  async stop(): Promise<void> {
    this.#watcher.close();
    await this.#loop;
  }

  async #run(paths: readonly string[], onText: (text: string) => void): Promise<void> {
    const buffer = new Uint8Array(1024 * 1024);
    const files = new Map<string, Deno.FsFile>();
    for (const path of paths) {
      const file = await Deno.open(path);
      await file.seek(0, Deno.SeekMode.End);
      files.set(path, file);
    }
    for await (const { paths } of this.#watcher) {
      for (const path of paths) {
        for (let n: number | null = 0; n !== null;) {
          n = await files.get(path)?.read(buffer) ?? null;
          if (n !== null) onText(new TextDecoder().decode(buffer.subarray(0, n)));
        }
      }
    }
    for (const file of files.values()) file.close();
  }
}

/** A command whose output is read. */
class Follower {
  onText: (text: string) => void = () => {};
  readonly #child: Deno.ChildProcess;
  readonly #loop: Promise<void>;

  constructor([program = "", ...args]: string[]) {
    this.#child = new Deno.Command(program, {
      args,
      stdin: "null",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    this.#loop = this.#run();
  }

  async stop(): Promise<void> {
    this.#child.kill();
    await this.#child.status;
    await this.#loop;
  }

  async #run(): Promise<void> {
    for await (const bytes of this.#child.stdout) this.onText(new TextDecoder().decode(bytes));
  }
}
