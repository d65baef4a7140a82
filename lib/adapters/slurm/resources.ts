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

/** Which of a container's Kubernetes resources count for its job. */
export interface CountingResources {
  readonly cores: boolean;
  readonly memory: boolean;
}

/** Those count of which the job's own settings say nothing, unless the administrator maps none (`mapResources`). */
export function countingResources(
  mapResources: boolean,
  chosen: readonly SbatchOption[],
): CountingResources {
  const names = new Set(chosen.map(({ name }) => name));
  return {
    cores: mapResources && names.isDisjointFrom(CORE_OPTIONS),
    memory: mapResources && names.isDisjointFrom(MEMORY_OPTIONS),
  };
}

/** sbatch options for a container's Kubernetes resources. Without a limit or request Slurm's defaults stand. */
export function resourceOptions(
  resources: LinuxContainerResources | undefined,
  counting: CountingResources,
): SbatchOption[] {
  const options: SbatchOption[] = [];
  const cores = coresOf(resources);
  if (cores > 0n && counting.cores) {
    options.push({ name: "cpus-per-task", value: String(cores) });
  }
  const mebibytes = mebibytesOf(resources);
  if (mebibytes > 0n && counting.memory) options.push({ name: "mem", value: `${mebibytes}M` });
  return options;
}

/**
 * The cores that a job gets: those of the cpu limit (cpu_quota / cpu_period), else of the request (cpu_shares),
 * rounded up; 0 without either.
 */
export function coresOf(resources: LinuxContainerResources | undefined): bigint {
  if (resources === undefined) return 0n;
  const { cpuQuota, cpuPeriod, cpuShares } = resources;
  if (cpuQuota > 0n && cpuPeriod > 0n) return ceilDivide(cpuQuota, cpuPeriod);
  return cpuShares > MIN_SHARES ? ceilDivide(cpuShares, SHARES_OF_A_CORE) : 0n;
}

/** The memory that a job gets: that of the limit in MiB, rounded up; 0 without one. */
export function mebibytesOf(resources: LinuxContainerResources | undefined): bigint {
  const bytes = resources?.memoryLimitInBytes ?? 0n;
  return bytes > 0n ? ceilDivide(bytes, BYTES_PER_MEBIBYTE) : 0n;
}

function ceilDivide(a: bigint, b: bigint): bigint {
  return (a + b - 1n) / b;
}
