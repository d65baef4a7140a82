import type { LinuxContainerResources } from "../../cri/api.generated.ts";

/** The kubelet's cpu_shares of one core, and the least it ever sends, which means "no request". */
const SHARES_OF_A_CORE = 1024n;
const MIN_SHARES = 2n;

const BYTES_PER_MEBIBYTE = 1024n * 1024n;

/** Options that say how many cores a job gets; where one of them is set, cpu is not derived. */
const CORE_OPTIONS = new Set([
  "cpus-per-task",
  "mincpus",
  "ntasks",
  "ntasks-per-node",
  "cores-per-socket",
  "exclusive",
]);
const MEMORY_OPTIONS = new Set(["mem", "mem-per-cpu", "mem-per-gpu"]);

export interface SbatchOption {
  name: string;
  value?: string;
}

/**
 * sbatch options for a container's Kubernetes resources, where the job's own settings say nothing: cores from
 * the cpu limit (cpu_quota / cpu_period), else from the request (cpu_shares), rounded up; memory from the limit, in
 * MiB, rounded up. Without a limit or request Slurm's defaults stand.
 */
export function resourceOptions(
  resources: LinuxContainerResources | undefined,
  chosen: readonly SbatchOption[],
): SbatchOption[] {
  if (resources === undefined) return [];
  const names = new Set(chosen.map(({ name }) => name));
  const options: SbatchOption[] = [];
  const cores = coresOf(resources);
  if (cores > 0n && names.isDisjointFrom(CORE_OPTIONS)) {
    options.push({ name: "cpus-per-task", value: String(cores) });
  }
  if (resources.memoryLimitInBytes > 0n && names.isDisjointFrom(MEMORY_OPTIONS)) {
    const mebibytes = ceilDivide(resources.memoryLimitInBytes, BYTES_PER_MEBIBYTE);
    options.push({ name: "mem", value: `${mebibytes}M` });
  }
  return options;
}

function coresOf({ cpuQuota, cpuPeriod, cpuShares }: LinuxContainerResources): bigint {
  if (cpuQuota > 0n && cpuPeriod > 0n) return ceilDivide(cpuQuota, cpuPeriod);
  return cpuShares > MIN_SHARES ? ceilDivide(cpuShares, SHARES_OF_A_CORE) : 0n;
}

function ceilDivide(a: bigint, b: bigint): bigint {
  return (a + b - 1n) / b;
}
