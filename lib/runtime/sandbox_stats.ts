import type { InterfaceTraffic } from "../adapters/steps/pod_traffic.ts";
import {
  type MemoryUsage,
  PodSandboxStats,
  type PodSandboxStatsFilter,
  type UInt64Value,
} from "../cri/api.generated.ts";
import type { ContainerRecord, SandboxRecord } from "../store/records.ts";
import { measuredAt, statsOf, toValue } from "./container_stats.ts";
import { matchesLabels, requireById } from "./lookup.ts";
import { type Runtime, toNanoseconds } from "./runtime.ts";

/**
 * PodSandboxStats.
 * @throws CriError NOT_FOUND.
 */
export function podSandboxStats(runtime: Runtime, sandboxId: string): PodSandboxStats {
  const sandbox = requireById(runtime.store.sandboxes, "pod sandbox", sandboxId);
  return statsOfSandbox(runtime, sandbox, containersBySandbox(runtime).get(sandbox.id) ?? []);
}

/** ListPodSandboxStats. */
export function listPodSandboxStats(
  runtime: Runtime,
  filter: PodSandboxStatsFilter | undefined,
): PodSandboxStats[] {
  const containers = containersBySandbox(runtime);
  return runtime.store.sandboxes.all()
    .filter((sandbox) =>
      sandbox.id.startsWith(filter?.id ?? "") &&
      matchesLabels(sandbox.config.labels, filter?.labelSelector)
    )
    .map((sandbox) => statsOfSandbox(runtime, sandbox, containers.get(sandbox.id) ?? []));
}

/** All containers, by the ids of their sandboxes. */
export function containersBySandbox(runtime: Runtime): Map<string, ContainerRecord[]> {
  return Map.groupBy(runtime.store.containers.all(), ({ sandboxId }) => sandboxId);
}

/**
 * A pod's statistics: the sums over its containers, since nothing else runs for it, and what went through its network,
 * if it has one of its own. The node's, and that of compute nodes, it shares with others.
 */
function statsOfSandbox(
  runtime: Runtime,
  { id, config, createdAtMs }: SandboxRecord,
  containers: readonly ContainerRecord[],
): PodSandboxStats {
  const stats = containers.map((container) => statsOf(runtime, container));
  const running = containers.filter(({ state }) => state.phase !== "exited");
  const memory = (figure: MemoryFigure) =>
    sum(stats.map((container) => container.memory?.[figure]?.value));
  const unknownSince = toNanoseconds(createdAtMs);
  const cpuTimestamp = latest(stats.map(({ cpu }) => cpu?.timestamp), unknownSince);
  const memoryTimestamp = latest(stats.map(({ memory }) => memory?.timestamp), unknownSince);
  return PodSandboxStats.fromPartial({
    attributes: {
      id,
      metadata: config.metadata,
      labels: config.labels,
      annotations: config.annotations,
    },
    linux: {
      cpu: {
        timestamp: cpuTimestamp,
        usageCoreNanoSeconds: sum(stats.map(({ cpu }) => cpu?.usageCoreNanoSeconds?.value)),
        usageNanoCores: sum(stats.map(({ cpu }) => cpu?.usageNanoCores?.value)),
      },
      memory: {
        timestamp: memoryTimestamp,
        workingSetBytes: memory("workingSetBytes"),
        usageBytes: memory("usageBytes"),
        rssBytes: memory("rssBytes"),
        pageFaults: memory("pageFaults"),
        majorPageFaults: memory("majorPageFaults"),
      },
      network: networkFigures(runtime, id),
      process: {
        timestamp: memoryTimestamp,
        processCount: sum(running.map(({ id }) => runtime.adapter.usage(id)?.processes)),
      },
      containers: stats,
    },
  });
}

/** NetworkUsage: the pod's first interface is the default one, and not among the others (api.proto). */
function networkFigures(runtime: Runtime, sandboxId: string) {
  const traffic = runtime.traffic?.of(sandboxId);
  if (traffic === undefined) return undefined;
  const [defaultInterface, ...interfaces] = traffic.interfaces.map(interfaceFigures);
  return {
    timestamp: measuredAt(runtime, traffic.measuredAtMs) ?? 0n,
    defaultInterface,
    interfaces,
  };
}

function interfaceFigures({ name, received, sent }: InterfaceTraffic) {
  return {
    name,
    rxBytes: { value: received.bytes },
    rxErrors: { value: received.errors },
    txBytes: { value: sent.bytes },
    txErrors: { value: sent.errors },
  };
}

/** The figures that are sums; without a limit of the whole pod nothing can be said of what is left. */
type MemoryFigure = Extract<
  keyof MemoryUsage,
  "workingSetBytes" | "usageBytes" | "rssBytes" | "pageFaults" | "majorPageFaults"
>;

/** The sum of what is known; absent when nothing is. */
function sum(values: readonly (bigint | undefined)[]): UInt64Value | undefined {
  const known = values.filter((value) => value !== undefined);
  return toValue(known.length === 0 ? undefined : known.reduce((a, b) => a + b, 0n));
}

function latest(times: readonly (bigint | undefined)[], otherwise: bigint): bigint {
  return times.reduce<bigint>((a, b) => (b === undefined || a > b ? a : b), otherwise);
}
