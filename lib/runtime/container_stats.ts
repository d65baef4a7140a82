import type { ContainerUsage } from "../adapters/adapter.ts";
import {
  ContainerStats,
  type ContainerStatsFilter,
  type UInt64Value,
} from "../cri/api.generated.ts";
import type { ContainerRecord } from "../store/records.ts";
import { matchesLabels, requireById } from "./lookup.ts";
import { type Runtime, toNanoseconds } from "./runtime.ts";

/**
 * ContainerStats.
 * @throws CriError NOT_FOUND.
 */
export function containerStats(runtime: Runtime, containerId: string): ContainerStats {
  return statsOf(runtime, requireById(runtime.store.containers, "container", containerId));
}

/** ListContainerStats: an entry for each container, whatever is known of it. */
export function listContainerStats(
  runtime: Runtime,
  filter: ContainerStatsFilter | undefined,
): ContainerStats[] {
  return runtime.store.containers.all()
    .filter((container) =>
      container.id.startsWith(filter?.id ?? "") &&
      container.sandboxId.startsWith(filter?.podSandboxId ?? "") &&
      matchesLabels(container.config.labels, filter?.labelSelector)
    )
    .map((container) => statsOf(runtime, container));
}

/**
 * The statistics of one container. Figures that nobody knows (the job waits, or has not told yet) are absent, which
 * the kubelet takes for "none yet" (cri_stats_provider.go); times are there always, as clients demand.
 */
export function statsOf(
  runtime: Runtime,
  { id, config, state, createdAtMs }: ContainerRecord,
): ContainerStats {
  const usage = runtime.adapter.usage(id);
  // What ended holds no memory; the time that it took stays true.
  const memory = state.phase === "exited" ? undefined : usage;
  // Before anything was measured, so that times only go forward.
  const unknownSince = toNanoseconds(state.phase === "running" ? state.startedAtMs : createdAtMs);
  const memoryTimestamp = state.phase === "exited"
    ? toNanoseconds(state.finishedAtMs)
    : measuredAt(runtime, memory?.measuredAtMs) ?? unknownSince;
  return ContainerStats.fromPartial({
    attributes: {
      id,
      metadata: config.metadata,
      labels: config.labels,
      annotations: config.annotations,
    },
    cpu: {
      timestamp: measuredAt(runtime, usage?.cpuAtMs) ?? unknownSince,
      usageCoreNanoSeconds: toValue(usage?.cpuNanoseconds),
      usageNanoCores: toValue(state.phase === "exited" ? undefined : usage?.nanoCores),
      psi: memory?.pressure?.cpu,
    },
    memory: {
      timestamp: memoryTimestamp,
      ...memoryFigures(memory, config.linux?.resources?.memoryLimitInBytes ?? 0n),
      psi: memory?.pressure?.memory,
    },
    writableLayer: layerFigures(runtime, id, unknownSince),
    swap: swapFigures(memory, memoryTimestamp),
    io: memory?.pressure?.io && { timestamp: memoryTimestamp, psi: memory.pressure.io },
  });
}

function layerFigures(runtime: Runtime, id: string, unknownSince: bigint) {
  const { adapter, images, clock } = runtime;
  if (adapter.layerUsage === undefined) {
    // The image is read-only, and what the job writes lies on its compute node.
    return {
      timestamp: toNanoseconds(clock.now()),
      fsId: { mountpoint: images.directory },
      usedBytes: { value: 0n },
      inodesUsed: { value: 0n },
    };
  }
  const usage = adapter.layerUsage(id);
  return {
    timestamp: measuredAt(runtime, usage?.measuredAtMs) ?? unknownSince,
    fsId: { mountpoint: usage?.directory ?? images.directory },
    usedBytes: toValue(usage?.bytes),
    inodesUsed: toValue(usage?.inodes),
  };
}

/** A time of measurement in nanoseconds, not later than now on this node's clock. */
export function measuredAt(runtime: Runtime, atMs: number | undefined): bigint | undefined {
  return atMs === undefined ? undefined : toNanoseconds(Math.min(atMs, runtime.clock.now()));
}

/** A figure of the CRI, absent where it is not known. */
export function toValue(value: bigint | undefined): UInt64Value | undefined {
  return value === undefined ? undefined : { value };
}

/** The figures of MemoryUsage; `limitBytes` 0: without a limit nothing can be said of what is left. */
function memoryFigures(usage: ContainerUsage | undefined, limitBytes: bigint) {
  if (usage === undefined) return {};
  const { residentBytes, ownBytes, minorFaults, majorFaults, counted } = usage;
  const left = limitBytes > residentBytes ? limitBytes - residentBytes : 0n;
  return {
    workingSetBytes: toValue(residentBytes),
    usageBytes: toValue(counted?.usageBytes ?? residentBytes),
    rssBytes: toValue(ownBytes),
    availableBytes: toValue(limitBytes > 0n ? left : undefined),
    pageFaults: toValue(minorFaults),
    majorPageFaults: toValue(majorFaults),
  };
}

/** SwapUsage; without a limit nothing can be said of what is left. */
function swapFigures(usage: ContainerUsage | undefined, timestamp: bigint) {
  const { swapBytes, swapLimitBytes } = usage?.counted ?? {};
  if (swapBytes === undefined) return undefined;
  const swapAvailableBytes = swapLimitBytes === undefined
    ? undefined
    : { value: swapLimitBytes > swapBytes ? swapLimitBytes - swapBytes : 0n };
  return { timestamp, swapUsageBytes: { value: swapBytes }, swapAvailableBytes };
}
