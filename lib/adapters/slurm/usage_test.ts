import { assert, assertEquals } from "@std/assert";
import { TestClock } from "../../base/test_clock.ts";
import { START, watchTest } from "./test_watched.ts";
import { JobUsages, parseUsage, type UsageFile } from "./usage.ts";

/** What a job writes into status/usage. */
const FILE = "time=1767312010.5\ncpu=2500000000\nresident=4096000\nown=1024000\n" +
  "minor=12\nmajor=3\nprocesses=4\n";
const USAGE: UsageFile = {
  measuredAtMs: 1_767_312_010_500,
  cpuNanoseconds: 2_500_000_000n,
  residentBytes: 4_096_000n,
  ownBytes: 1_024_000n,
  minorFaults: 12n,
  majorFaults: 3n,
  processes: 4n,
};

const FILES: [what: string, text: string, usage: UsageFile | undefined][] = [
  ["all is there", FILE, USAGE],
  ["more is there", `${FILE}new=5\n`, USAGE],
  ["it is empty", "", undefined],
  ["a line is missing", FILE.replace(/own=.*\n/, ""), undefined],
  ["it was cut", FILE.slice(0, -3), undefined],
  ["a number is none", FILE.replace("cpu=25", "cpu=-25"), undefined],
  ["a number is too long", FILE.replace("cpu=", `cpu=${"9".repeat(19)}`), undefined],
  ["its time is none", FILE.replace("time=", "time=x"), undefined],
];
for (const [what, text, usage] of FILES) {
  Deno.test(`parseUsage() gives ${usage ? "the usage" : "nothing"} when ${what}`, () => {
    assertEquals(parseUsage(new TextEncoder().encode(text)), usage);
  });
}

/** What a job told at seconds of the test's time, with the seconds of processor time by then. */
type Told = readonly [atSeconds: number, cpuSeconds: number];

const NOW_MS = Date.UTC(2026, 0, 2);

/** Usages of a job that tells every 10 s, each told as soon as it was measured; then the clock says `now`. */
function usages(told: readonly Told[], nowSeconds: number, startedAtSeconds = -100): JobUsages {
  const clock = new TestClock(NOW_MS);
  const usages = new JobUsages(10_000, clock);
  for (const [atSeconds, cpuSeconds] of told) {
    clock.advance(NOW_MS + atSeconds * 1000 - clock.now());
    usages.add(
      "c1",
      { ...USAGE, ...figures(atSeconds, cpuSeconds) },
      NOW_MS + startedAtSeconds * 1000,
    );
  }
  clock.advance(NOW_MS + nowSeconds * 1000 - clock.now());
  return usages;
}

function figures(atSeconds: number, cpuSeconds: number) {
  return {
    measuredAtMs: NOW_MS + atSeconds * 1000,
    cpuNanoseconds: BigInt(cpuSeconds * 1000) * 1_000_000n,
  };
}

const GROWING: Told[] = [[1, 1], [3, 3], [7, 7], [15, 11], [25, 31]];
/** The moment told of lies 13 seconds back. */
const TIMES: [what: string, told: Told[], now: number, cpu: Told, cores: number | undefined][] = [
  ["one figure is there", [[1, 1]], 2, [1, 1], undefined],
  ["the moment lies before all", [[1, 1], [3, 2]], 4, [1, 1], 0.5],
  ["the moment lies at one", GROWING, 28, [15, 11], 2],
  ["the moment lies between two", GROWING, 33, [20, 21], 2],
  ["the moment lies between others", GROWING, 26, [13, 10], 2],
  ["nothing was told any more", GROWING, 60, [25, 31], 2],
  ["nothing was used", [[1, 4], [11, 4]], 22, [9, 4], 0],
  ["it is told again", [[1, 1], [3, 3], [3, 3]], 15, [2, 2], 1],
  ["the job began anew", [[1, 5], [11, 6], [21, 1]], 30, [21, 1], undefined],
  ["its clock was set back", [[11, 5], [1, 6]], 30, [1, 6], undefined],
];
for (const [what, told, now, [atSeconds, cpuSeconds], cores] of TIMES) {
  Deno.test(`JobUsages.of() gives the processor time of its moment when ${what}`, () => {
    const usage = usages(told, now).of("c1");
    const { measuredAtMs, cpuNanoseconds } = figures(atSeconds, cpuSeconds);
    assertEquals([usage?.cpuAtMs, usage?.cpuNanoseconds], [measuredAtMs, cpuNanoseconds]);
    assertEquals(usage?.nanoCores, cores === undefined ? undefined : BigInt(cores * 1e9));
    assertEquals(usage?.measuredAtMs, NOW_MS + (told.at(-1)?.[0] ?? 0) * 1000);
    assertEquals(usage?.residentBytes, USAGE.residentBytes);
  });
}

const BEGINNINGS: [
  what: string,
  startedAt: number,
  now: number,
  cpu: Told,
  cores: number | undefined,
][] = [
  ["the moment lies before its start", 2, 5, [2, 0], 2],
  ["the moment lies between its start and the first figures", 2, 16, [3, 2], 2],
  ["it began long before the first figures", -2, 5, [4, 4], undefined],
  ["its first figures are older than its start", 5, 5, [4, 4], undefined],
];
for (const [what, startedAt, now, [atSeconds, cpuSeconds], cores] of BEGINNINGS) {
  Deno.test(`JobUsages.of() gives the processor time of a job when ${what}`, () => {
    const usage = usages([[4, 4]], now, startedAt).of("c1");
    const { measuredAtMs, cpuNanoseconds } = figures(atSeconds, cpuSeconds);
    assertEquals([usage?.cpuAtMs, usage?.cpuNanoseconds], [measuredAtMs, cpuNanoseconds]);
    assertEquals(usage?.nanoCores, cores === undefined ? undefined : BigInt(cores * 1e9));
    assertEquals(usage?.measuredAtMs, NOW_MS + 4000);
  });
}

Deno.test("JobUsages.of() never gives less processor time or an earlier moment than before", () => {
  const clock = new TestClock(NOW_MS);
  const usages = new JobUsages(10_000, clock);
  let last = { cpuAtMs: 0, cpuNanoseconds: 0n };
  let cpuSeconds = 0;
  for (let second = 1, next = 1; second < 300; second++) {
    clock.advance(1000);
    if (second === next) {
      cpuSeconds += second % 7;
      usages.add("c1", { ...USAGE, ...figures(second, cpuSeconds) }, NOW_MS);
      next += Math.min(second, 10);
    }
    const usage = usages.of("c1");
    if (usage === undefined) throw new Error(`Nothing is known at ${second}`);
    assert(usage.cpuAtMs >= last.cpuAtMs, `at ${second}`);
    assert(usage.cpuNanoseconds >= last.cpuNanoseconds, `at ${second}`);
    // Once there are figures on both sides every second has a moment of its own.
    if (second > 30) assertEquals(usage.cpuAtMs, clock.now() - 13_000);
    last = usage;
  }
});

Deno.test("JobUsages.forget() forgets", () => {
  const known = usages(GROWING, 30);
  known.forget("c1");
  assertEquals(known.of("c1"), undefined);
});

const told = { ...USAGE, cpuAtMs: USAGE.measuredAtMs };

watchTest("takes in what a job uses until it ends, and keeps it then", async (watched) => {
  await watched.write("status/usage", FILE);
  await watched.pass();
  assertEquals(watched.usages.of("c1"), undefined);
  await watched.queue("RUNNING|N/A|10|n1|None");
  await watched.write("status/start", START);
  await watched.pass();
  assertEquals(watched.usages.of("c1"), told);
  for (const text of ["", FILE.replace("25", "55").replace("10.5", "12.5")]) {
    await watched.write("status/usage", text);
    await watched.pass();
  }
  assertEquals(watched.usages.of("c1")?.nanoCores, 1_500_000_000n);
  await watched.write("status/exit", "job=101\ncode=0\ntime=1767312013.75\n");
  await watched.pass();
  assertEquals(watched.end(), [0, "Completed"]);
  assertEquals(watched.usages.of("c1")?.measuredAtMs, USAGE.measuredAtMs + 2000);
});

watchTest("looks at a job's use every two seconds only", async (watched) => {
  await watched.queue("RUNNING|N/A|10|n1|None");
  await watched.write("status/start", START);
  await watched.pass();
  await watched.write("status/usage", FILE);
  await watched.pass(1_000);
  assertEquals(watched.usages.of("c1"), undefined);
  await watched.pass(1_000);
  assertEquals(watched.usages.of("c1"), told);
});
