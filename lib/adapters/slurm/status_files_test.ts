import { assertEquals } from "@std/assert";
import { type JobExit, type JobStart, parseExit, parseStart } from "./status_files.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

const STARTS: readonly [text: string, start: JobStart | undefined][] = [
  ["job=7\nhost=n1\npid=12\ntime=1700000000.500000000\n", {
    jobId: "7",
    host: "n1",
    timeMs: 1_700_000_000_500,
  }],
  ["time=1\nhost=a=b\njob=7\nnoise", { jobId: "7", host: "a=b", timeMs: 1000 }],
  ["", undefined],
  ["job=7\ntime=1\n", undefined],
  ["host=n1\ntime=1\n", undefined],
  ["job=7\nhost=n1\n", undefined],
  ["job=7\nhost=n1\ntime=yesterday\n", undefined],
  ["\0\0\0\0", undefined],
];

for (const [text, start] of STARTS) {
  Deno.test(`parseStart() reads ${JSON.stringify(text)}`, () => {
    assertEquals(parseStart(bytes(text)), start);
  });
}

const EXITS: readonly [text: string, exit: JobExit | undefined][] = [
  ["job=7\ncode=0\ntime=1.5\n", { exitCode: 0, timeMs: 1500, error: undefined, signalled: false }],
  ["job=7\ncode=0\ntime=1.5\nsignal=TERM\n", {
    exitCode: 0,
    timeMs: 1500,
    error: undefined,
    signalled: true,
  }],
  ["job=7\ncode=192\ntime=1\n", { exitCode: 192, timeMs: 1000, error: undefined, signalled: true }],
  ["job=7\ncode=255\ntime=2\n", {
    exitCode: 255,
    timeMs: 2000,
    error: undefined,
    signalled: false,
  }],
  ["job=7\ncode=125\ntime=2\nerror=a = b\n", {
    exitCode: 125,
    timeMs: 2000,
    error: "a = b",
    signalled: false,
  }],
  ["code=256\ntime=2\n", undefined],
  ["code=-1\ntime=2\n", undefined],
  ["code=\ntime=2\n", undefined],
  ["code=1x\ntime=2\n", undefined],
  ["code=1\n", undefined],
  ["time=2\n", undefined],
  ["", undefined],
];

for (const [text, exit] of EXITS) {
  Deno.test(`parseExit() reads ${JSON.stringify(text)}`, () => {
    assertEquals(parseExit(bytes(text)), exit);
  });
}
