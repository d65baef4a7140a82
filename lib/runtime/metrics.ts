import type { ContainerUsage } from "../adapters/adapter.ts";
import {
  type DeepPartial,
  type Metric,
  type MetricDescriptor,
  MetricType,
  type PodSandboxMetrics,
} from "../cri/api.generated.ts";
import type { ContainerRecord, SandboxRecord } from "../store/records.ts";
import { measuredAt } from "./container_stats.ts";
import type { Runtime } from "./runtime.ts";
import { containersBySandbox } from "./sandbox_stats.ts";

const NANOSECONDS_PER_SECOND = 1_000_000_000n;

/** The labels of each metric, named as cAdvisor's are. */
const LABEL_KEYS = ["container", "id", "image", "name", "namespace", "pod"] as const;

/** A metric and where its value comes from; undefined where it is not known. */
interface Kind {
  name: string;
  help: string;
  type: MetricType;
  valueOf: (usage: ContainerUsage, container: ContainerRecord) => bigint | undefined;
  /** When it was measured, where that is a time of its own. */
  atMs?: (usage: ContainerUsage) => number;
}

/**
 * What is told of each container, under the names that cAdvisor and other runtimes use. They are whole numbers in
 * the CRI, seconds too.
 */
const KINDS: readonly Kind[] = [
  {
    name: "container_cpu_usage_seconds_total",
    help: "Cumulative cpu time consumed in seconds.",
    type: MetricType.COUNTER,
    valueOf: ({ cpuNanoseconds }) => cpuNanoseconds / NANOSECONDS_PER_SECOND,
    atMs: ({ cpuAtMs }) => cpuAtMs,
  },
  {
    name: "container_memory_usage_bytes",
    help: "Current memory usage in bytes: resident memory of all processes.",
    type: MetricType.GAUGE,
    valueOf: ({ residentBytes }, container) => whileItRuns(container, residentBytes),
  },
  {
    name: "container_memory_working_set_bytes",
    help: "Current working set in bytes: resident memory of all processes.",
    type: MetricType.GAUGE,
    valueOf: ({ residentBytes }, container) => whileItRuns(container, residentBytes),
  },
  {
    name: "container_memory_rss",
    help: "Size of anonymous memory in bytes.",
    type: MetricType.GAUGE,
    valueOf: ({ ownBytes }, container) => whileItRuns(container, ownBytes),
  },
  {
    name: "container_processes",
    help: "Number of processes running inside the container.",
    type: MetricType.GAUGE,
    valueOf: ({ processes }, container) => whileItRuns(container, processes),
  },
  {
    name: "container_start_time_seconds",
    help: "Start time of the container since unix epoch in seconds.",
    type: MetricType.GAUGE,
    valueOf: (_, { state }) =>
      state.phase === "running" ? BigInt(Math.floor(state.startedAtMs / 1000)) : undefined,
  },
  {
    name: "container_spec_memory_limit_bytes",
    help: "Memory limit for the container.",
    type: MetricType.GAUGE,
    valueOf: (_, { config }) => config.linux?.resources?.memoryLimitInBytes || undefined,
  },
];

/** ListMetricDescriptors: the same as long as the server runs, as api.proto asks. */
export function metricDescriptors(): MetricDescriptor[] {
  return KINDS.map(({ name, help }) => ({ name, help, labelKeys: [...LABEL_KEYS] }));
}

/** ListPodSandboxMetrics: of pods and containers of which something is known. */
export function listPodSandboxMetrics(runtime: Runtime): DeepPartial<PodSandboxMetrics>[] {
  const containers = containersBySandbox(runtime);
  return runtime.store.sandboxes.all().map((sandbox) => ({
    podSandboxId: sandbox.id,
    containerMetrics: (containers.get(sandbox.id) ?? [])
      .flatMap((container) => {
        const usage = runtime.adapter.usage(container.id);
        if (usage === undefined) return [];
        return {
          containerId: container.id,
          metrics: metricsOf(runtime, sandbox, container, usage),
        };
      }),
  }));
}

function metricsOf(
  runtime: Runtime,
  sandbox: SandboxRecord,
  container: ContainerRecord,
  usage: ContainerUsage,
): Metric[] {
  const pod = sandbox.config.metadata;
  const labels: Record<typeof LABEL_KEYS[number], string> = {
    container: container.config.metadata?.name ?? "",
    id: container.id,
    image: container.config.image?.userSpecifiedImage || container.config.image?.image || "",
    name: container.id,
    namespace: pod?.namespace ?? "",
    pod: pod?.name ?? "",
  };
  return KINDS.flatMap(({ name, type, valueOf, atMs }) => {
    const value = valueOf(usage, container);
    if (value === undefined) return [];
    return {
      name,
      timestamp: measuredAt(runtime, atMs?.(usage) ?? usage.measuredAtMs) ?? 0n,
      metricType: type,
      labelValues: LABEL_KEYS.map((key) => labels[key]),
      value: { value },
    };
  });
}

/** What ended holds nothing any more. */
function whileItRuns({ state }: ContainerRecord, value: bigint): bigint | undefined {
  return state.phase === "exited" ? undefined : value;
}
