import { CriError } from "../../../base/error.ts";
import { shown } from "../../../base/shown.ts";
import type { LinuxContainerResources } from "../../../cri/api.generated.ts";
import type { NodeFacts } from "../node.ts";
import type { OciResources } from "./oci_spec.ts";

/** What is unlimited (cpu.cfs_quota_us, memory.memsw.limit_in_bytes; runtime-spec, config-linux.md). */
const UNLIMITED = -1;
/** Within a second and a millisecond (scheduler/sched-bwc.rst), in microseconds. */
const MAX_PERIOD_US = 1_000_000n;
const MIN_PERIOD_US = 1_000n;
/** The kernel counts it in parts of a nanosecond (core.c, max_bw_runtime_us). */
const MAX_QUOTA_US = 2n ** 44n / 1_000n;
/** The kernel takes no more (sched.h, MAX_SHARES), and crun would count wrongly with the largest. */
const MAX_SHARES = 262_144n;
/** More memory than any machine has, which JSON's numbers hold within 64 bits. */
const MAX_BYTES = 2n ** 62n;
/** Of proc_pid_oom_score_adj(5). */
const MAX_OOM_SCORE = 1000n;

/** Numbers and ranges of them with commas, cpuset(7). */
const CPU_LIST = /^\d{1,9}(-\d{1,9})?(,\d{1,9}(-\d{1,9})?)*$/;
const MAX_LIST_CHARACTERS = 4095;

/**
 * The limits of a container's cgroup; what the pod leaves out is left to the kernel.
 * @param facts What the kernel has controllers for. A kubelet sends limits of huge pages for every container, most
 * of them 0, and other runtimes leave limits out too that cannot be. Nor may a container swap, as with them, whose
 * memory is limited and of whose swap nothing is said.
 * @throws CriError INVALID_ARGUMENT for what no kernel takes.
 */
export function resourcesOf(
  resources: LinuxContainerResources | undefined,
  { canLimitHugepages, canLimitSwap, hasUnifiedCgroups }: Pick<
    NodeFacts,
    "canLimitHugepages" | "canLimitSwap" | "hasUnifiedCgroups"
  >,
): Pick<OciResources, "cpu" | "memory" | "hugepageLimits" | "unified"> {
  if (resources === undefined) return {};
  checkTimes(resources);
  checkMemory(resources);
  checkLists(resources);
  checkHugepages(resources);
  checkUnified(resources, hasUnifiedCgroups);
  checkOomScore(resources);
  const { cpuPeriod, cpuQuota, cpuShares, cpusetCpus, cpusetMems } = resources;
  const { memoryLimitInBytes, memorySwapLimitInBytes, hugepageLimits, unified } = resources;
  const cpu = {
    ...(cpuPeriod > 0n ? { period: Number(cpuPeriod) } : {}),
    ...(cpuQuota !== 0n ? { quota: cpuQuota < 0n ? UNLIMITED : Number(cpuQuota) } : {}),
    ...(cpuShares > 0n ? { shares: Number(cpuShares) } : {}),
    ...(cpusetCpus !== "" ? { cpus: cpusetCpus } : {}),
    ...(cpusetMems !== "" ? { mems: cpusetMems } : {}),
  };
  const hasLimit = memoryLimitInBytes > 0n;
  // The kernel's files and the runtime-spec count memory and swap together.
  const withSwap = memorySwapLimitInBytes === 0n ? memoryLimitInBytes : memorySwapLimitInBytes;
  const memory = {
    ...(hasLimit ? { limit: bytes(memoryLimitInBytes) } : {}),
    ...(canLimitSwap && withSwap > 0n ? { swap: bytes(withSwap) } : {}),
    ...(canLimitSwap && hasLimit && withSwap < 0n ? { swap: UNLIMITED } : {}),
  };
  return {
    ...(Object.keys(cpu).length > 0 ? { cpu } : {}),
    ...(Object.keys(memory).length > 0 ? { memory } : {}),
    ...(canLimitHugepages && hugepageLimits.length > 0
      ? {
        hugepageLimits: hugepageLimits.map(({ pageSize, limit }) => ({
          pageSize,
          limit: bytes(limit),
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
export function oomScoreOf(
  resources: Pick<LinuxContainerResources, "oomScoreAdj"> | undefined,
  { oomScore, mayLowerOomScore }: Pick<NodeFacts, "oomScore" | "mayLowerOomScore">,
): number {
  const asked = Number(resources?.oomScoreAdj ?? 0n);
  return mayLowerOomScore ? asked : Math.max(asked, oomScore);
}

function bytes(limit: bigint): number {
  return Number(limit < MAX_BYTES ? limit : MAX_BYTES);
}

function checkTimes({ cpuPeriod, cpuQuota, cpuShares }: LinuxContainerResources): void {
  if (cpuShares > MAX_SHARES) {
    throw refused(`the shares ${cpuShares} of processor time: they must be ${MAX_SHARES} at most`);
  }
  if (cpuPeriod > 0n && (cpuPeriod < MIN_PERIOD_US || cpuPeriod > MAX_PERIOD_US)) {
    throw refused(
      `the period ${cpuPeriod} for processor time: it must be from ${MIN_PERIOD_US} to ${MAX_PERIOD_US} microseconds`,
    );
  }
  if (cpuQuota > 0n && cpuQuota < MIN_PERIOD_US) {
    throw refused(
      `the quota ${cpuQuota} of processor time: it must be ${MIN_PERIOD_US} microseconds at least`,
    );
  }
  if (cpuQuota > MAX_QUOTA_US) {
    throw refused(
      `the quota ${cpuQuota} of processor time: it must be ${MAX_QUOTA_US} microseconds at most`,
    );
  }
}

function checkMemory(
  { memoryLimitInBytes, memorySwapLimitInBytes }: LinuxContainerResources,
): void {
  if (memorySwapLimitInBytes <= 0n) return;
  if (memoryLimitInBytes > 0n && memorySwapLimitInBytes >= memoryLimitInBytes) return;
  throw refused(
    `the limit ${memorySwapLimitInBytes} for memory and swap together: there must be a limit for memory, which is ` +
      `not larger, and that is ${memoryLimitInBytes}`,
  );
}

function checkLists({ cpusetCpus, cpusetMems }: LinuxContainerResources): void {
  for (const [what, list] of [["processors", cpusetCpus], ["memory nodes", cpusetMems]] as const) {
    if (list === "" || list.length <= MAX_LIST_CHARACTERS && CPU_LIST.test(list)) continue;
    throw refused(`the ${what} ${shown(list)}: they must be numbers and ranges, as "0-3,6"`);
  }
}

function checkHugepages({ hugepageLimits }: LinuxContainerResources): void {
  const unknown = hugepageLimits.find(({ pageSize }) => !/^[1-9]\d{0,8}[KMGT]B$/.test(pageSize));
  if (unknown === undefined) return;
  throw refused(
    `a limit for huge pages of the size ${
      shown(unknown.pageSize)
    }: it must be a number and KB, MB, GB or TB, as "2MB"`,
  );
}

/** Each is a file of the container's cgroup, and must not be one of another's. */
function checkUnified({ unified }: LinuxContainerResources, hasUnifiedCgroups: boolean): void {
  for (const [name, value] of Object.entries(unified)) {
    const why = !/^[a-z][a-z0-9_]*(\.[a-zA-Z0-9_]+)+$/.test(name)
      ? 'it must be the name of a file of cgroups, as "memory.high"'
      : /[^\n\t\P{Cc}]/u.test(value) || value.length > MAX_LIST_CHARACTERS
      ? `its value must be text of ${MAX_LIST_CHARACTERS} characters at most`
      : !hasUnifiedCgroups
      ? "this node has cgroups of version 1, where there are none of those of version 2"
      : undefined;
    if (why !== undefined) throw refused(`the setting ${shown(name)} of its cgroup: ${why}`);
  }
}

function checkOomScore({ oomScoreAdj }: LinuxContainerResources): void {
  if (oomScoreAdj >= -MAX_OOM_SCORE && oomScoreAdj <= MAX_OOM_SCORE) return;
  throw refused(
    `the oom_score_adj ${oomScoreAdj}: it must be from -${MAX_OOM_SCORE} to ${MAX_OOM_SCORE}`,
  );
}

function refused(what: string): CriError {
  return new CriError("INVALID_ARGUMENT", `Cannot give the container ${what}.`);
}
