import { PsiData } from "../../cri/api.generated.ts";
import type { ContainerUsage, CountedFigure } from "../adapter.ts";

/** What cgroups tell of a container, without what only a clock knows. */
export type Figures = Omit<ContainerUsage, "measuredAtMs" | "cpuAtMs" | "nanoCores">;

/** A value's file, and its name where there are several in it. */
type Source = string;

/**
 * Where the two versions of cgroups(7) have a figure. Those of version 1 that begin with `total_` stand beside others
 * of the names of version 2, which do not count the cgroups below.
 */
const COUNTED: Readonly<Record<CountedFigure, readonly Source[]>> = {
  usageBytes: ["memory.current", "memory.usage_in_bytes"],
  peakBytes: ["memory.peak", "memory.max_usage_in_bytes"],
  cacheBytes: ["memory.stat total_cache", "memory.stat file"],
  mappedBytes: ["memory.stat total_mapped_file", "memory.stat file_mapped"],
  activeFileBytes: ["memory.stat total_active_file", "memory.stat active_file"],
  inactiveFileBytes: ["memory.stat total_inactive_file", "memory.stat inactive_file"],
  kernelBytes: ["memory.stat kernel", "memory.kmem.usage_in_bytes"],
  swapBytes: ["memory.swap.current", "memory.stat total_swap"],
  swapLimitBytes: ["memory.swap.max"],
  limitHits: ["memory.events max", "memory.failcnt"],
  userNanoseconds: ["cpu.stat user_usec", "cpuacct.usage_user"],
  systemNanoseconds: ["cpu.stat system_usec", "cpuacct.usage_sys"],
  periods: ["cpu.stat nr_periods"],
  throttledPeriods: ["cpu.stat nr_throttled"],
  throttledNanoseconds: ["cpu.stat throttled_usec", "cpu.stat throttled_time"],
  threads: ["pids.current"],
  maxThreads: ["pids.max"],
};

/** Those that every container has, or cannot be told of. */
const CPU_TIME = ["cpu.stat usage_usec", "cpuacct.usage"];
const OWN_MEMORY = ["memory.stat total_rss", "memory.stat anon"];
const MINOR_FAULTS = ["memory.stat total_pgfault", "memory.stat pgfault"];
const MAJOR_FAULTS = ["memory.stat total_pgmajfault", "memory.stat pgmajfault"];
const PROCESSES = ["processes"];

/** Without a limit version 1 names one of nearly 2^63 bytes. */
const UNLIMITED_BYTES = 2n ** 62n;

/**
 * Reads what measure.pl tells: lines of a container's place, a file and a line of that. Containers that ended meanwhile
 * are missing.
 */
export function parseUsages(text: string): ReadonlyMap<number, Figures> {
  const valuesByPlace = new Map<number, Map<Source, string>>();
  for (const line of text.split("\n")) {
    const [, place, source, value] = /^(\d+) (\S+(?: \S+(?= ))?) (.+)$/.exec(line) ?? [];
    if (place === undefined || source === undefined || value === undefined) continue;
    const index = Number(place);
    let values = valuesByPlace.get(index);
    if (values === undefined) valuesByPlace.set(index, values = new Map());
    values.set(source, value);
  }
  return new Map(
    [...valuesByPlace].flatMap(([index, values]) => {
      const figures = figuresOf(values);
      return figures === undefined ? [] : [[index, figures]];
    }),
  );
}

function figuresOf(values: ReadonlyMap<Source, string>): Figures | undefined {
  const number = (sources: readonly Source[]): bigint | undefined => {
    const source = sources.find((source) => values.has(source)) ?? "";
    const digits = values.get(source) ?? "";
    if (!/^\d+$/.test(digits)) return undefined;
    return BigInt(digits) * (source.endsWith("_usec") ? 1000n : 1n);
  };
  const counted: Partial<Record<CountedFigure, bigint>> = {};
  for (const [figure, sources] of Object.entries(COUNTED) as [CountedFigure, Source[]][]) {
    const value = number(sources);
    if (value !== undefined) counted[figure] = value;
  }
  const swapLimit = swapLimitOfVersion1(number);
  if (swapLimit !== undefined) counted.swapLimitBytes = swapLimit;
  const { usageBytes: usage, inactiveFileBytes: idle = 0n } = counted;
  const cpuNanoseconds = number(CPU_TIME);
  if (usage === undefined || cpuNanoseconds === undefined) return undefined;
  const pressure = pressureOf(values);
  return {
    cpuNanoseconds,
    // The working set, as the kubelet reckons it: without files that nobody has used lately.
    residentBytes: usage > idle ? usage - idle : 0n,
    ownBytes: number(OWN_MEMORY) ?? 0n,
    minorFaults: number(MINOR_FAULTS) ?? 0n,
    majorFaults: number(MAJOR_FAULTS) ?? 0n,
    processes: number(PROCESSES) ?? 0n,
    counted,
    ...(Object.keys(pressure).length === 0 ? {} : { pressure }),
  };
}

/** It limits memory, and memory with swap. */
function swapLimitOfVersion1(
  number: (sources: readonly Source[]) => bigint | undefined,
): bigint | undefined {
  const both = number(["memory.stat hierarchical_memsw_limit"]);
  const memory = number(["memory.stat hierarchical_memory_limit"]);
  if (both === undefined || memory === undefined || both > UNLIMITED_BYTES) return undefined;
  return both > memory ? both - memory : 0n;
}

/** Pressure stall information (the kernel's accounting/psi.rst). */
function pressureOf(values: ReadonlyMap<Source, string>): NonNullable<Figures["pressure"]> {
  const pressure: NonNullable<ContainerUsage["pressure"]> = Object.fromEntries(
    (["cpu", "memory", "io"] as const).flatMap((resource) => {
      const some = psiData(values.get(`${resource}.pressure some`));
      const full = psiData(values.get(`${resource}.pressure full`));
      return some === undefined && full === undefined
        ? []
        : [[resource, { Some: some, Full: full }]];
    }),
  );
  return pressure;
}

function psiData(text: string | undefined): PsiData | undefined {
  if (text === undefined) return undefined;
  const value = (name: string) => new RegExp(`(?:^| )${name}=([\\d.]+)`).exec(text)?.[1] ?? "0";
  return PsiData.fromPartial({
    // The kernel counts microseconds.
    Total: BigInt(value("total")) * 1000n,
    Avg10: Number(value("avg10")),
    Avg60: Number(value("avg60")),
    Avg300: Number(value("avg300")),
  });
}
