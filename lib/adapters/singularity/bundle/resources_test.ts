import { assertEquals } from "@std/assert";
import { LinuxContainerResources } from "../../../cri/api.generated.ts";
import { clampedOomScore, resourcesOf } from "./resources.ts";

Deno.test("resourcesOf() says nothing of what the pod leaves out", () => {
  assertEquals(resourcesOf(undefined, true), {});
  assertEquals(resourcesOf(LinuxContainerResources.fromPartial({}), true), {});
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
  assertEquals(resourcesOf(resources, true), {
    cpu: { period: 100_000, quota: -1, shares: 512, cpus: "0-1" },
    memory: { limit: 2 ** 33 },
    hugepageLimits: [{ pageSize: "2MB", limit: 4 }],
    unified: { "memory.high": "1" },
  });
});

Deno.test("resourcesOf() leaves limits of hugepages out when the kernel cannot keep them", () => {
  const hugepageLimits = [{ pageSize: "2MB", limit: 0n }];
  assertEquals(resourcesOf(LinuxContainerResources.fromPartial({ hugepageLimits }), false), {});
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
