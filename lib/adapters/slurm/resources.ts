import { CriError } from "../../base/error.ts";
import type { LinuxContainerResources } from "../../cri/api.generated.ts";

/** The kubelet's cpu_shares of one core, and the least it ever sends, which means "no request". */
const SHARES_OF_A_CORE = 1024n;
const MIN_SHARES = 2n;

const BYTES_PER_MEBIBYTE = 1024n * 1024n;

/** What CRI says for "without a limit". */
const UNLIMITED = -1n;
/** The kernel's period, for who names a quota only, in microseconds (Linux, sched-bwc.rst). */
const DEFAULT_CPU_PERIOD = 100_000n;
/** More than any node has: 1 PiB. */
const MAX_MEMORY_BYTES = 1n << 50n;
/** Slurm counts the cores of a task in 16 bits, of which the last values mean something else (slurm.h, NO_VAL16). */
const MAX_CORES = 0xfff0n;

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

/** @throws CriError INVALID_ARGUMENT for what no job could be asked for; `whose` is it. */
export function checkResources(
  resources: LinuxContainerResources | undefined,
  whose: string,
): void {
  if (resources === undefined) return;
  const { memoryLimitInBytes, cpuQuota, cpuPeriod, cpuShares } = resources;
  const refuse = (what: string, bound: string, value: bigint) => {
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot use the resources of ${whose}: ${what} must be ${bound}, not ${value}.`,
    );
  };
  if (memoryLimitInBytes < UNLIMITED || memoryLimitInBytes > MAX_MEMORY_BYTES) {
    const bound = `a number of bytes up to ${MAX_MEMORY_BYTES}, or -1 for no limit`;
    refuse("the memory limit", bound, memoryLimitInBytes);
  }
  if (cpuQuota < UNLIMITED) refuse("the cpu quota", "positive, or -1 for no limit", cpuQuota);
  if (cpuPeriod < 0n) refuse("the cpu period", "positive", cpuPeriod);
  if (cpuShares < 0n) refuse("the cpu shares", "positive", cpuShares);
  const cores = coresOf(resources);
  if (cores > MAX_CORES) refuse("the number of cores", `at most ${MAX_CORES}`, cores);
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
  if (cpuQuota > 0n) return ceilDivide(cpuQuota, cpuPeriod > 0n ? cpuPeriod : DEFAULT_CPU_PERIOD);
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
