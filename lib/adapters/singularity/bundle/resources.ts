import type { LinuxContainerResources } from "../../../cri/api.generated.ts";
import type { OciResources } from "./oci_spec.ts";

/** What an unlimited quota is called (cpu.cfs_quota_us). */
const UNLIMITED = -1;

/**
 * The limits of a container's cgroup; what the pod leaves out is left to the kernel.
 * @param canLimitHugepages Whether the kernel has a controller for that. A kubelet sends limits for every container, most
 * of them 0, and other runtimes leave them out too where there is none.
 */
export function resourcesOf(
  resources: LinuxContainerResources | undefined,
  canLimitHugepages: boolean,
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
  const memory = {
    ...(memoryLimitInBytes > 0n ? { limit: Number(memoryLimitInBytes) } : {}),
    ...(memorySwapLimitInBytes > 0n ? { swap: Number(memorySwapLimitInBytes) } : {}),
  };
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
