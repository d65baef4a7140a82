import { assertEquals } from "@std/assert";
import type { ContainerUsage } from "../adapter.ts";
import { START, watchTest } from "./test_watched.ts";
import { nextUsage, parseUsage, type UsageFile } from "./usage.ts";

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

const LATER = { ...USAGE, measuredAtMs: USAGE.measuredAtMs + 2000, cpuNanoseconds: 5_500_000_000n };
const BEFORE: ContainerUsage = { ...USAGE, nanoCores: 7n };
const NEXT: [what: string, before: ContainerUsage | undefined, file: UsageFile, ContainerUsage][] =
  [
    ["it is the first", undefined, USAGE, USAGE],
    ["it is the same again", BEFORE, USAGE, BEFORE],
    ["time has passed", BEFORE, LATER, { ...LATER, nanoCores: 1_500_000_000n }],
    ["nothing was used", BEFORE, { ...LATER, cpuNanoseconds: USAGE.cpuNanoseconds }, {
      ...LATER,
      cpuNanoseconds: USAGE.cpuNanoseconds,
      nanoCores: 0n,
    }],
    ["the job began anew", LATER, { ...LATER, cpuNanoseconds: 5n, measuredAtMs: 9e12 }, {
      ...LATER,
      cpuNanoseconds: 5n,
      measuredAtMs: 9e12,
    }],
    ["the clock was set back", LATER, USAGE, USAGE],
  ];
for (const [what, before, file, usage] of NEXT) {
  Deno.test(`nextUsage() says what is known when ${what}`, () => {
    assertEquals(nextUsage(before, file), usage);
  });
}

watchTest("takes in what a job uses until it ends, and keeps it then", async (watched) => {
  await watched.write("status/usage", FILE);
  await watched.pass();
  assertEquals(watched.usages.get("c1"), undefined);
  await watched.write("status/start", START);
  await watched.pass();
  assertEquals(watched.usages.get("c1"), USAGE);
  for (const text of ["", FILE.replace("25", "55").replace("10.5", "12.5")]) {
    await watched.write("status/usage", text);
    await watched.pass();
  }
  const last = { ...LATER, nanoCores: 1_500_000_000n };
  assertEquals(watched.usages.get("c1"), last);
  await watched.write("status/exit", "job=101\ncode=0\ntime=1767312013.75\n");
  await watched.pass();
  assertEquals([watched.end(), watched.usages.get("c1")], [[0, "Completed"], last]);
});

watchTest("looks at a job's use every two seconds only", async (watched) => {
  await watched.write("status/start", START);
  await watched.pass();
  await watched.write("status/usage", FILE);
  await watched.pass(1_000);
  assertEquals(watched.usages.size, 0);
  await watched.pass(1_000);
  assertEquals(watched.usages.get("c1"), USAGE);
});
