import { writeStderrLine } from "../lib/base/log.ts";

/** Random numbers that a seed repeats. */
export interface RandomSource {
  /** A whole number from 0 up to, not including, `limit`. */
  below(limit: number): number;
  pick<T>(items: readonly T[]): T;
}

/** Set it to the printed number to repeat a test's run. */
const SEED_VARIABLE = "MULTICRI_TEST_SEED";

/** A new seed, or the one in MULTICRI_TEST_SEED; printed with the test's name. */
export function seedFor(test: string): number {
  const given = Deno.env.get(SEED_VARIABLE);
  const seed = given === undefined ? Date.now() % 2 ** 31 : Number(given);
  writeStderrLine(`${test}: ${SEED_VARIABLE}=${seed}`);
  return seed;
}

/** A linear congruential generator (Numerical Recipes); its low bits are left out. */
export function randomSource(seed: number): RandomSource {
  let state = seed >>> 0;
  const below = (limit: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
  return {
    below,
    pick<T>(items: readonly T[]): T {
      const item = items[below(items.length)];
      if (item === undefined) throw new Error("Cannot pick from an empty list");
      return item;
    },
  };
}
