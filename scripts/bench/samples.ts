import { writeStdoutLine } from "../../lib/base/log.ts";

/** Milliseconds that each of a number of runs took. */
export type Samples = readonly number[];

/** The value below which a share of the samples lies. */
export function quantile(samples: Samples, share: number): number {
  const sorted = samples.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN;
}

/** Two ways to the same end. */
export interface Way {
  name: string;
  /** A number that it gives counts instead of the time that it took, in milliseconds. */
  run(): Promise<unknown>;
}

/** How often and how they are run. */
export interface Repetition {
  /** Of each way. */
  times: number;
  /** At a time. */
  parallel: number;
}

/**
 * Measures two ways in turns, so that the machine's moods hit both alike, and prints a line: p50 and p99 of each in
 * milliseconds, and what the second adds to and how it compares with the first at p50.
 */
export async function compare(
  what: string,
  [base, other]: readonly [Way, Way],
  { times, parallel }: Repetition,
): Promise<void> {
  const samples = { base: [] as number[], other: [] as number[] };
  // A tenth more, that is not counted: code is compiled and caches are filled.
  const turns = 10;
  for (let turn = -1; turn < turns; turn++) {
    for (const [way, list] of [[base, samples.base], [other, samples.other]] as const) {
      const found = await measure(way, { times: Math.ceil(times / turns), parallel });
      if (turn >= 0) list.push(...found);
    }
  }
  const figures = [samples.base, samples.other].map((list) => ({
    p50: quantile(list, 0.5),
    p99: quantile(list, 0.99),
  }));
  const [first, second] = figures;
  if (first === undefined || second === undefined) return;
  const show = (ms: number) => ms.toFixed(3).padStart(9);
  writeStdoutLine(
    `${what.padEnd(34)} ×${String(parallel).padEnd(3)}` +
      `${base.name}${show(first.p50)}${show(first.p99)}  ` +
      `${other.name}${show(second.p50)}${show(second.p99)}  ` +
      `added${show(second.p50 - first.p50)}  ratio ${(second.p50 / first.p50).toFixed(2)}`,
  );
}

async function measure({ run }: Way, { times, parallel }: Repetition): Promise<number[]> {
  const samples: number[] = [];
  let left = times;
  const worker = async () => {
    while (left-- > 0) {
      const begin = performance.now();
      const told = await run();
      samples.push(typeof told === "number" ? told : performance.now() - begin);
    }
  };
  await Promise.all(Array.from({ length: parallel }, worker));
  return samples;
}
