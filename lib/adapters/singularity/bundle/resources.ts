import { CriError } from "../../../base/error.ts";
import type { LinuxContainerResources } from "../../../cri/api.generated.ts";
import type { NodeFacts } from "../node.ts";
import type { OciResources } from "./oci_spec.ts";

/** What an unlimited quota is called (cpu.cfs_quota_us). */
const UNLIMITED = -1;

/**
 * The limits of a container's cgroup; what the pod leaves out is left to the kernel.
 * @param facts What the kernel has controllers for. A kubelet sends limits of huge pages for every container, most
 * of them 0, and other runtimes leave limits out too that cannot be. Nor may a container swap, as with them, whose memory
 * is limited and of whose swap nothing is said.
 * @throws CriError INVALID_ARGUMENT for a size of pages that is none.
 */
export function resourcesOf(
  resources: LinuxContainerResources | undefined,
  { canLimitHugepages, canLimitSwap }: Pick<NodeFacts, "canLimitHugepages" | "canLimitSwap">,
): Pick<OciResources, "cpu" | "memory" | "hugepageLimits" | "unified"> {
  if (resources === undefined) return {};
  const { cpuPeriod, cpuQuota, cpuShares, cpusetCpus, cpusetMems } = resources;
  const { memoryLimitInBytes, memorySwapLimitInBytes, hugepageLimits, unified } = resources;
  const cpu = {
    ...(cpuPeriod > 0n ? { period: Number(cpuPeriod) } : {}),
    ...(cpuQuota !== 0n ? { quota: cpuQuota < 0n ? UNLIMITED : Number(cpuQuota) } : {}),
    ...(cpuShares > 0n ? { shares: Number(cpuShares) } : {}),
    ...(cpusetCpus !== "" ? { cpus: cpusetCpus } : {}),
    ...(cpusetMems !== "" ? { mems: cpusetMems } : {}),
  };
  // The kernel's files and the runtime-spec count memory and swap together.
  const withSwap = memorySwapLimitInBytes > 0n ? memorySwapLimitInBytes : memoryLimitInBytes;
  const memory = {
    ...(memoryLimitInBytes > 0n ? { limit: Number(memoryLimitInBytes) } : {}),
    ...(canLimitSwap && withSwap > 0n ? { swap: Number(withSwap) } : {}),
  };
  const unknown = hugepageLimits.find(({ pageSize }) => !/^[1-9]\d*[KMGT]B$/.test(pageSize));
  if (unknown !== undefined) {
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot limit huge pages of the size ${
        JSON.stringify(unknown.pageSize)
      }: it must be a number and KB, MB, GB or TB, as "2MB".`,
    );
  }
  return {
    ...(Object.keys(cpu).length > 0 ? { cpu } : {}),
    ...(Object.keys(memory).length > 0 ? { memory } : {}),
    ...(canLimitHugepages && hugepageLimits.length > 0
      ? {
        hugepageLimits: hugepageLimits.map(({ pageSize, limit }) => ({
          pageSize,
          limit: Number(limit),
        })),
      }
      : {}),
    ...(Object.keys(unified).length > 0 ? { unified } : {}),
  };
}

/**
 * How readily the kernel kills the container for memory. Without CAP_SYS_RESOURCE a process cannot be protected better
 * than this one is (proc_pid_oom_score_adj(5)), so it is clamped.
 */
export function clampedOomScore(asked: bigint, own: number, mayLower: boolean): number {
  const score = Math.min(1000, Math.max(-1000, Number(asked)));
  return mayLower ? score : Math.max(score, own);
}
