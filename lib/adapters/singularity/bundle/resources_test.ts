import { assertEquals, assertMatch, assertThrows } from "@std/assert";
import { messageOf } from "../../../base/error.ts";
import { type DeepPartial, LinuxContainerResources } from "../../../cri/api.generated.ts";
import { oomScoreOf, resourcesOf } from "./resources.ts";

const FACTS = { canLimitHugepages: true, canLimitSwap: true, hasUnifiedCgroups: true };

function limits(resources: DeepPartial<LinuxContainerResources>, facts = FACTS) {
  return resourcesOf(LinuxContainerResources.fromPartial(resources), facts);
}

Deno.test("resourcesOf() says nothing of what the pod leaves out", () => {
  assertEquals(resourcesOf(undefined, FACTS), {});
  assertEquals(limits({}), {});
});

Deno.test("resourcesOf() passes limits on", () => {
  const resources = {
    cpuPeriod: 100_000n,
    cpuQuota: -1n,
    cpuShares: 512n,
    cpusetCpus: "0-1,3",
    cpusetMems: "0",
    memoryLimitInBytes: 2n ** 33n,
    memorySwapLimitInBytes: 2n ** 33n,
    hugepageLimits: [{ pageSize: "2MB", limit: 4n }],
    unified: { "memory.high": "1", "io.max": "8:16 rbps=1\n8:0 wiops=2" },
  };
  assertEquals(limits(resources), {
    cpu: { period: 100_000, quota: -1, shares: 512, cpus: "0-1,3", mems: "0" },
    memory: { limit: 2 ** 33, swap: 2 ** 33 },
    hugepageLimits: [{ pageSize: "2MB", limit: 4 }],
    unified: resources.unified,
  });
});

Deno.test("resourcesOf() keeps limits beyond all memory within what JSON and crun hold", () => {
  const limit = 2n ** 63n - 1n;
  const { memory, hugepageLimits } = limits({
    memoryLimitInBytes: limit,
    memorySwapLimitInBytes: limit,
    hugepageLimits: [{ pageSize: "1GB", limit: 2n ** 64n - 1n }],
  });
  const written = [memory?.limit, memory?.swap, hugepageLimits?.[0]?.limit].map((number) =>
    BigInt(JSON.stringify(number))
  );
  for (const number of written) assertEquals(number > 2n ** 61n && number < 2n ** 63n, true);
});

Deno.test("resourcesOf() leaves out what is unlimited, and huge pages that the kernel cannot limit", () => {
  const least = -(2n ** 63n);
  assertEquals(
    limits({
      cpuPeriod: least,
      cpuQuota: least,
      cpuShares: least,
      memoryLimitInBytes: least,
      memorySwapLimitInBytes: least,
    }),
    { cpu: { quota: -1 } },
  );
  const pages = { hugepageLimits: [{ pageSize: "1GB", limit: 4n }] };
  assertEquals(limits(pages, { ...FACTS, canLimitHugepages: false }), {});
});

const size = (pageSize: string) => ({ hugepageLimits: [{ pageSize, limit: 4n }] });
const unified = (name: string, value = "1") => ({ unified: { [name]: value } });
const largest = 2n ** 63n - 1n;

const REFUSED: [resources: DeepPartial<LinuxContainerResources>, message: RegExp][] = [
  ...["", "2", "2MiB", "1Gi", "0MB", "x/../2MB", "2MB ", `${"9".repeat(20)}MB`].map(
    (pages): [DeepPartial<LinuxContainerResources>, RegExp] => [
      size(pages),
      /huge pages of the size "/,
    ],
  ),
  [{ cpuPeriod: 1n }, /the period 1 for processor time: it must be from 1000 to 1000000/],
  [{ cpuPeriod: largest }, /the period 9223372036854775807/],
  [{ cpuQuota: 999n }, /the quota 999 .* 1000 microseconds at least/],
  [{ cpuQuota: largest }, /the quota 9223372036854775807 .* microseconds at most/],
  [{ cpuShares: 262_145n }, /the shares 262145 .* 262144 at most/],
  [{ memorySwapLimitInBytes: 5n }, /the limit 5 for memory and swap together/],
  [
    { memorySwapLimitInBytes: 5n, memoryLimitInBytes: 6n },
    /must be a limit for memory, which is not larger, and that is 6/,
  ],
  ...["a\0b", "a", "0-", "-1", "1,,2", "0\n1", "1;id", ",", "9".repeat(5_000)].map(
    (list): [DeepPartial<LinuxContainerResources>, RegExp] => [
      { cpusetCpus: list },
      /the processors ".*: they must be numbers and ranges/,
    ],
  ),
  [{ cpusetMems: "x" }, /the memory nodes "x"/],
  ...["", "..", "../memory.max", "memory/max", "memory", "cgroup.procs\0", ";$(id)"].map(
    (name): [DeepPartial<LinuxContainerResources>, RegExp] => [
      unified(name),
      /the setting ".*" of its cgroup: it must be the name of a file/,
    ],
  ),
  [unified("memory.max", "1\0"), /its value must be text/],
  [unified("memory.max", "1".repeat(5_000)), /its value must be text of 4095 characters at most/],
  [{ oomScoreAdj: 1001n }, /the oom_score_adj 1001: it must be from -1000 to 1000/],
  [{ oomScoreAdj: -largest }, /the oom_score_adj -9223372036854775807/],
];

for (const [resources, message] of REFUSED) {
  const [[name, value] = []] = Object.entries(resources);
  const what = JSON.stringify(value, (_, one) => typeof one === "bigint" ? String(one) : one);
  Deno.test(`resourcesOf() refuses ${name} ${what.slice(0, 60)}`, () => {
    const error = messageOf(assertThrows(() => limits(resources)));
    assertMatch(error, message);
    assertEquals(error.length < 400, true);
  });
}

Deno.test("resourcesOf() refuses settings of version 2 where cgroups are of version 1", () => {
  const facts = { ...FACTS, hasUnifiedCgroups: false };
  const error = assertThrows(() => limits(unified("pids.max"), facts));
  assertMatch(messageOf(error), /"pids.max" of its cgroup: this node has cgroups of version 1/);
});

for (
  const [limit, swap, canLimitSwap, memory] of [
    [64n, 0n, true, { limit: 64, swap: 64 }],
    [64n, 96n, true, { limit: 64, swap: 96 }],
    [64n, -1n, true, { limit: 64, swap: -1 }],
    [64n, 0n, false, { limit: 64 }],
    [64n, 96n, false, { limit: 64 }],
    [0n, 0n, true, undefined],
  ] as const
) {
  const can = canLimitSwap ? "can" : "cannot";
  Deno.test(`resourcesOf() limits memory to ${limit} and with swap to ${swap} where the kernel ${can} limit that`, () => {
    const asked = { memoryLimitInBytes: limit, memorySwapLimitInBytes: swap };
    assertEquals(limits(asked, { ...FACTS, canLimitSwap }).memory, memory);
  });
}

for (
  const [asked, oomScore, mayLowerOomScore, score] of [
    [500n, 0, false, 500],
    [-997n, 0, false, 0],
    [-997n, -500, false, -500],
    [-997n, 0, true, -997],
    [undefined, 0, true, 0],
  ] as const
) {
  Deno.test(`oomScoreOf() makes ${score} of ${asked} where this process has ${oomScore}${mayLowerOomScore ? " and may lower it" : ""}`, () => {
    const resources = asked === undefined ? undefined : { oomScoreAdj: asked };
    assertEquals(oomScoreOf(resources, { oomScore, mayLowerOomScore }), score);
  });
}
