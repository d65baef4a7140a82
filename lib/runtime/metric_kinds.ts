import type { ContainerUsage, CountedFigure, LayerUsage } from "../adapters/adapter.ts";
import type { Flow, InterfaceTraffic } from "../adapters/steps/pod_traffic.ts";
import { type LinuxContainerResources, MetricType } from "../cri/api.generated.ts";
import type { ContainerRecord } from "../store/records.ts";

const NANOSECONDS_PER_SECOND = 1_000_000_000n;

/** A metric, and where its values come from. */
export interface MetricKind<Subject> {
  readonly name: string;
  readonly help: string;
  readonly type: MetricType;
  /** The names of labels that only this metric has. */
  readonly labels?: readonly string[];
  readonly samples: (subject: Subject) => readonly Sample[];
}

/** A value of a metric; undefined where it is not known. */
interface Sample {
  readonly value: bigint | undefined;
  /** Of the metric's own labels. */
  readonly labels?: readonly string[];
  /** When it was measured, where that is a time of its own. */
  readonly atMs?: number;
}

/** What is known of one container. */
interface KnownContainer {
  readonly usage: ContainerUsage;
  readonly layer: LayerUsage | undefined;
  readonly container: ContainerRecord;
}

/**
 * What is told of each container, under the names that cAdvisor and other runtimes use (KEP 2371); of those that ended,
 * only what they used up. They are whole numbers in the CRI, seconds too.
 */
export const CONTAINER_METRICS: readonly MetricKind<KnownContainer>[] = [
  {
    name: "container_cpu_usage_seconds_total",
    help: "Cumulative cpu time consumed in seconds.",
    type: MetricType.COUNTER,
    samples: ({ usage: { cpuNanoseconds, cpuAtMs } }) => [
      { value: cpuNanoseconds / NANOSECONDS_PER_SECOND, atMs: cpuAtMs },
    ],
  },
  seconds("container_cpu_user_seconds_total", "Cumulative user cpu time.", "userNanoseconds"),
  seconds("container_cpu_system_seconds_total", "Cumulative system cpu time.", "systemNanoseconds"),
  counter("container_cpu_cfs_periods_total", "Number of elapsed enforcement periods.", "periods"),
  counter(
    "container_cpu_cfs_throttled_periods_total",
    "Number of throttled periods.",
    "throttledPeriods",
  ),
  seconds(
    "container_cpu_cfs_throttled_seconds_total",
    "Time in which the container has been throttled.",
    "throttledNanoseconds",
  ),
  gauge(
    "container_memory_usage_bytes",
    "Current memory usage in bytes, including all memory regardless of when it was accessed.",
    ({ counted, residentBytes }) => counted?.usageBytes ?? residentBytes,
  ),
  gauge(
    "container_memory_working_set_bytes",
    "Current working set in bytes.",
    ({ residentBytes }) => residentBytes,
  ),
  gauge("container_memory_rss", "Size of anonymous memory in bytes.", ({ ownBytes }) => ownBytes),
  countedGauge("container_memory_max_usage_bytes", "Maximum memory usage recorded.", "peakBytes"),
  countedGauge("container_memory_cache", "Number of bytes of page cache memory.", "cacheBytes"),
  countedGauge("container_memory_mapped_file", "Size of memory mapped files.", "mappedBytes"),
  countedGauge(
    "container_memory_total_active_file_bytes",
    "Current total active file in bytes.",
    "activeFileBytes",
  ),
  countedGauge(
    "container_memory_total_inactive_file_bytes",
    "Current total inactive file in bytes.",
    "inactiveFileBytes",
  ),
  countedGauge("container_memory_kernel_usage", "Size of kernel memory.", "kernelBytes"),
  countedGauge("container_memory_swap", "Container swap usage in bytes.", "swapBytes"),
  counter("container_memory_failcnt", "Number of memory usage hits limits.", "limitHits"),
  {
    name: "container_memory_failures_total",
    help: "Cumulative count of memory allocation failures.",
    type: MetricType.COUNTER,
    labels: ["failure_type", "scope"],
    samples: ({ usage: { minorFaults, majorFaults }, container }) => [
      { value: whileItRuns(container, minorFaults), labels: ["pgfault", "container"] },
      { value: whileItRuns(container, majorFaults), labels: ["pgmajfault", "container"] },
    ],
  },
  gauge(
    "container_processes",
    "Number of processes running inside the container.",
    ({ processes }) => processes,
  ),
  countedGauge("container_threads", "Number of threads running inside the container.", "threads"),
  countedGauge(
    "container_threads_max",
    "Maximum number of threads allowed inside the container.",
    "maxThreads",
  ),
  {
    name: "container_fs_usage_bytes",
    help: "Number of bytes that the container has written into its own layer.",
    type: MetricType.GAUGE,
    samples: ({ layer }) =>
      layer === undefined ? [] : [{ value: layer.bytes, atMs: layer.measuredAtMs }],
  },
  pressure("cpu", "waiting", "Some"),
  pressure("cpu", "stalled", "Full"),
  pressure("memory", "waiting", "Some"),
  pressure("memory", "stalled", "Full"),
  pressure("io", "waiting", "Some"),
  pressure("io", "stalled", "Full"),
  {
    name: "container_start_time_seconds",
    help: "Start time of the container since unix epoch in seconds.",
    type: MetricType.GAUGE,
    samples: ({ container: { state } }) => [
      { value: state.phase === "running" ? wholeSeconds(state.startedAtMs) : undefined },
    ],
  },
  {
    name: "container_last_seen",
    help: "Last time a container was seen, since unix epoch in seconds.",
    type: MetricType.GAUGE,
    samples: ({ container, usage: { measuredAtMs } }) => [
      { value: whileItRuns(container, wholeSeconds(measuredAtMs)) },
    ],
  },
  asked("container_spec_cpu_period", "CPU period of the container.", ({ cpuPeriod }) => cpuPeriod),
  asked("container_spec_cpu_quota", "CPU quota of the container.", ({ cpuQuota }) => cpuQuota),
  asked("container_spec_cpu_shares", "CPU share of the container.", ({ cpuShares }) => cpuShares),
  asked(
    "container_spec_memory_limit_bytes",
    "Memory limit for the container.",
    ({ memoryLimitInBytes }) => memoryLimitInBytes,
  ),
  asked(
    "container_spec_memory_swap_limit_bytes",
    "Limit of memory and swap for the container.",
    ({ memorySwapLimitInBytes }) => memorySwapLimitInBytes,
  ),
];

/** What is told of each interface of a pod's network. */
export const NETWORK_METRICS: readonly MetricKind<InterfaceTraffic>[] = (
  ["receive", "transmit"] as const
).flatMap((way) => {
  const kind = (what: string, help: string, value: (flow: Flow) => bigint) => ({
    name: `container_network_${way}_${what}_total`,
    help: `Cumulative count of ${help} (${way}).`,
    type: MetricType.COUNTER,
    labels: ["interface"],
    samples: ({ name, received, sent }: InterfaceTraffic) => [
      { value: value(way === "receive" ? received : sent), labels: [name] },
    ],
  });
  return [
    kind("bytes", "bytes", ({ bytes }) => bytes),
    kind("packets", "packets", ({ packets }) => packets),
    kind("errors", "errors", ({ errors }) => errors),
    kind("packets_dropped", "dropped packets", ({ dropped }) => dropped),
  ];
});

function gauge(
  name: string,
  help: string,
  value: (usage: ContainerUsage) => bigint | undefined,
): MetricKind<KnownContainer> {
  const samples = ({ usage, container }: KnownContainer) => [
    { value: whileItRuns(container, value(usage)) },
  ];
  return { name, help, type: MetricType.GAUGE, samples };
}

function countedGauge(name: string, help: string, figure: CountedFigure) {
  return gauge(name, help, ({ counted }) => counted?.[figure]);
}

function counter(name: string, help: string, figure: CountedFigure): MetricKind<KnownContainer> {
  const samples = ({ usage }: KnownContainer) => [{ value: usage.counted?.[figure] }];
  return { name, help, type: MetricType.COUNTER, samples };
}

function seconds(name: string, help: string, figure: CountedFigure): MetricKind<KnownContainer> {
  const samples = ({ usage: { counted } }: KnownContainer) => {
    const nanoseconds = counted?.[figure];
    return nanoseconds === undefined ? [] : [{ value: nanoseconds / NANOSECONDS_PER_SECOND }];
  };
  return { name, help, type: MetricType.COUNTER, samples };
}

/** Pressure stall information: some of the processes waited, or all stood still. */
function pressure(
  resource: "cpu" | "memory" | "io",
  what: "waiting" | "stalled",
  part: "Some" | "Full",
): MetricKind<KnownContainer> {
  return {
    name: `container_pressure_${resource}_${what}_seconds_total`,
    help: `Total time in which ${
      part === "Some" ? "some processes" : "all processes"
    } waited for ${resource}.`,
    type: MetricType.COUNTER,
    samples: ({ usage }) => {
      const nanoseconds = usage.pressure?.[resource]?.[part]?.Total;
      return nanoseconds === undefined ? [] : [{ value: nanoseconds / NANOSECONDS_PER_SECOND }];
    },
  };
}

/** What the container was created with, or got since; 0 is nothing asked for. */
function asked(
  name: string,
  help: string,
  value: (resources: LinuxContainerResources) => bigint,
): MetricKind<KnownContainer> {
  return {
    name,
    help,
    type: MetricType.GAUGE,
    samples: ({ container: { config } }) => {
      const resources = config.linux?.resources;
      const asked = resources === undefined ? 0n : value(resources);
      return asked > 0n ? [{ value: asked }] : [];
    },
  };
}

function wholeSeconds(ms: number): bigint {
  return BigInt(Math.floor(ms / 1000));
}

/** What ended holds nothing any more. */
function whileItRuns(
  { state }: ContainerRecord,
  value: bigint | undefined,
): bigint | undefined {
  return state.phase === "exited" ? undefined : value;
}
