import { assertEquals } from "@std/assert";
import { LinuxContainerResources } from "../../cri/api.generated.ts";
import { countingResources, resourceOptions } from "./resources.ts";

const GIBIBYTE = 1024n * 1024n * 1024n;

type Resources = Parameters<typeof LinuxContainerResources.fromPartial>[0];

const CASES: readonly [what: string, Resources, chosen: string[], expected: string[]][] = [
  ["nothing is set", {}, [], []],
  ["the cpu limit is whole", { cpuQuota: 200_000n, cpuPeriod: 100_000n }, [], ["cpus-per-task=2"]],
  [
    "the cpu limit is not whole",
    { cpuQuota: 150_001n, cpuPeriod: 100_000n },
    [],
    ["cpus-per-task=2"],
  ],
  ["the cpu limit is tiny", { cpuQuota: 1_000n, cpuPeriod: 100_000n }, [], ["cpus-per-task=1"]],
  [
    "the cpu limit and the request differ",
    { cpuQuota: 300_000n, cpuPeriod: 100_000n, cpuShares: 1024n },
    [],
    ["cpus-per-task=3"],
  ],
  ["there is a cpu request only", { cpuShares: 1025n }, [], ["cpus-per-task=2"]],
  ["the cpu request is one core", { cpuShares: 1024n }, [], ["cpus-per-task=1"]],
  ["the kubelet sends the least of shares", { cpuShares: 2n }, [], []],
  ["the cpu quota is unlimited", { cpuQuota: -1n, cpuPeriod: 100_000n }, [], []],
  ["there is no period", { cpuQuota: 150_000n }, [], ["cpus-per-task=2"]],
  ["the memory limit is whole", { memoryLimitInBytes: 2n * GIBIBYTE }, [], ["mem=2048M"]],
  ["the memory limit is not whole", { memoryLimitInBytes: 1_000_001n }, [], ["mem=1M"]],
  [
    "the memory limit is beyond a double",
    { memoryLimitInBytes: (1n << 62n) + 1n },
    [],
    ["mem=4398046511105M"],
  ],
  ["the memory is unlimited", { memoryLimitInBytes: -1n }, [], []],
  ...["cpus-per-task", "mincpus", "ntasks", "ntasks-per-node", "cores-per-socket", "exclusive"]
    .map((name): [string, Resources, string[], string[]] => [
      `the job sets --${name}`,
      { cpuShares: 4096n, memoryLimitInBytes: GIBIBYTE },
      [name],
      ["mem=1024M"],
    ]),
  ...["mem", "mem-per-cpu", "mem-per-gpu"].map((
    name,
  ): [string, Resources, string[], string[]] => [
    `the job sets --${name}`,
    { cpuShares: 4096n, memoryLimitInBytes: GIBIBYTE },
    [name],
    ["cpus-per-task=4"],
  ]),
];

for (const [what, resources, chosen, expected] of CASES) {
  Deno.test(`resourceOptions() gives ${expected.join(" ") || "nothing"} when ${what}`, () => {
    const options = resourceOptions(
      LinuxContainerResources.fromPartial(resources),
      countingResources(true, chosen.map((name) => ({ name }))),
    );
    assertEquals(options.map(({ name, value }) => `${name}=${value}`), expected);
  });
}

Deno.test("resourceOptions() gives nothing when the container has no resources", () => {
  assertEquals(resourceOptions(undefined, countingResources(true, [])), []);
});

Deno.test("countingResources() says that none counts when none is to be mapped", () => {
  assertEquals(countingResources(false, []), { cores: false, memory: false });
});
