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

/** What one way took. */
export interface NamedSamples {
  name: string;
  samples: Samples;
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
  compareSamples(what, parallel, [
    { name: base.name, samples: samples.base },
    { name: other.name, samples: samples.other },
  ]);
}

/** Prints the line of `compare` for what was measured otherwise. */
export function compareSamples(
  what: string,
  parallel: number,
  [base, other]: readonly [NamedSamples, NamedSamples],
): void {
  const figure = ({ name, samples }: NamedSamples) =>
    name + [0.5, 0.99].map((share) => quantile(samples, share).toFixed(3).padStart(9)).join("");
  const [first, second] = [quantile(base.samples, 0.5), quantile(other.samples, 0.5)];
  writeStdoutLine(
    `${what.padEnd(34)} ×${String(parallel).padEnd(3)}${figure(base)}  ${figure(other)}  ` +
      `added${(second - first).toFixed(3).padStart(9)}  ratio ${(second / first).toFixed(2)}`,
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
