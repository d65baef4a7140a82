import { assertEquals, assertThrows } from "@std/assert";
import { CriError } from "../../../base/error.ts";
import { LinuxContainerResources } from "../../../cri/api.generated.ts";
import { clampedOomScore, resourcesOf } from "./resources.ts";

const ALL = { canLimitHugepages: true, canLimitSwap: true };
const NOTHING = { canLimitHugepages: false, canLimitSwap: false };

Deno.test("resourcesOf() says nothing of what the pod leaves out", () => {
  assertEquals(resourcesOf(undefined, ALL), {});
  assertEquals(resourcesOf(LinuxContainerResources.fromPartial({}), ALL), {});
});

Deno.test("resourcesOf() passes limits on", () => {
  const resources = LinuxContainerResources.fromPartial({
    cpuPeriod: 100_000n,
    cpuQuota: -1n,
    cpuShares: 512n,
    cpusetCpus: "0-1",
    memoryLimitInBytes: 2n ** 33n,
    hugepageLimits: [{ pageSize: "2MB", limit: 4n }],
    unified: { "memory.high": "1" },
  });
  assertEquals(resourcesOf(resources, ALL), {
    cpu: { period: 100_000, quota: -1, shares: 512, cpus: "0-1" },
    memory: { limit: 2 ** 33, swap: 2 ** 33 },
    hugepageLimits: [{ pageSize: "2MB", limit: 4 }],
    unified: { "memory.high": "1" },
  });
});

for (
  const [limit, swap, facts, memory] of [
    [64n, 0n, ALL, { limit: 64, swap: 64 }],
    [64n, 96n, ALL, { limit: 64, swap: 96 }],
    [64n, 0n, NOTHING, { limit: 64 }],
    [64n, 96n, NOTHING, { limit: 64 }],
    [0n, 0n, ALL, undefined],
  ] as const
) {
  const can = facts.canLimitSwap ? "can" : "cannot";
  Deno.test(`resourcesOf() limits memory to ${limit} and with swap to ${swap} where the kernel ${can} limit that`, () => {
    const resources = LinuxContainerResources.fromPartial({
      memoryLimitInBytes: limit,
      memorySwapLimitInBytes: swap,
    });
    assertEquals(resourcesOf(resources, facts).memory, memory);
  });
}

Deno.test("resourcesOf() leaves huge pages out that the kernel cannot limit, and refuses sizes that are none", () => {
  const of = (pageSize: string) =>
    LinuxContainerResources.fromPartial({ hugepageLimits: [{ pageSize, limit: 4n }] });
  assertEquals(resourcesOf(of("1GB"), NOTHING), {});
  for (const size of ["", "2", "2MiB", "0MB", "x/../2MB", "2MB "]) {
    assertThrows(() => resourcesOf(of(size), ALL), CriError, "huge pages of the size");
  }
});

for (
  const [asked, own, mayLower, score] of [
    [500n, 0, false, 500],
    [-997n, 0, false, 0],
    [-997n, -500, false, -500],
    [-997n, 0, true, -997],
    [5000n, 0, true, 1000],
  ] as const
) {
  Deno.test(`clampedOomScore() makes ${score} of ${asked} where this process has ${own}${mayLower ? " and may lower it" : ""}`, () => {
    assertEquals(clampedOomScore(asked, own, mayLower), score);
  });
}
