import { assertEquals } from "@std/assert";
import { describeJob } from "./describe.ts";
import type { SlurmWorkload } from "./workload.ts";

const CREATED: SlurmWorkload = { account: "u@login:22" };
const STARTED: SlurmWorkload = {
  ...CREATED,
  directory: "/home/u/multi-cri/s1/c1",
  jobId: "17",
  submittedAtMs: 1_767_312_000_000,
  partition: "main",
  slurmState: "RUNNING",
  job: { host: "n1", startedAtMs: 1_767_312_001_500.25 },
};

Deno.test("describeJob() tells of a container without a job only whose it is", () => {
  assertEquals(describeJob(CREATED, undefined), { account: "u@login:22" });
});

Deno.test("describeJob() tells a job's times, directories and use", () => {
  const usage = {
    measuredAtMs: 1_767_312_010_000,
    cpuAtMs: 1_767_312_000_000,
    cpuNanoseconds: 5n,
    residentBytes: 4n,
    ownBytes: 3n,
    minorFaults: 2n,
    majorFaults: 1n,
    processes: 1n,
  };
  assertEquals(describeJob(STARTED, usage), {
    ...STARTED,
    submittedAt: "2026-01-02T00:00:00.000Z",
    startedAt: "2026-01-02T00:00:01.500Z",
    resultsDirectory: "/home/u/multi-cri/s1/c1/results",
    usage: { ...usage, measuredAt: "2026-01-02T00:00:10.000Z" },
  });
});
