/** What containers use, for the tests of statistics and metrics. */
import type { ContainerUsage } from "../adapters/adapter.ts";
import type { Traffic } from "../adapters/steps/pod_traffic.ts";
import {
  type ContainerStats,
  LinuxContainerConfig,
  type PodSandboxStats,
} from "../cri/api.generated.ts";
import { createContainer } from "./container_create.ts";
import { containerRequest, type TestRuntime } from "./test_runtime.ts";

export const MEBIBYTE = 1n << 20n;

/** What a container uses that was measured `ageMs` ago. */
export function usage({ clock }: TestRuntime, ageMs: number): ContainerUsage {
  return {
    measuredAtMs: clock.now() - ageMs,
    cpuAtMs: clock.now() - 2 * ageMs,
    cpuNanoseconds: 3_700_000_000n,
    nanoCores: 500_000_000n,
    residentBytes: 96n * MEBIBYTE,
    ownBytes: 64n * MEBIBYTE,
    minorFaults: 12n,
    majorFaults: 3n,
    processes: 4n,
  };
}

/** Traffic that was measured `ageMs` ago: through an interface of this name, and one that is twice as busy. */
export function traffic({ clock }: TestRuntime, ageMs: number): Traffic {
  const flow = (times: bigint, first: bigint) => ({
    bytes: times * first,
    packets: times * (first + 1n),
    errors: times * (first + 2n),
    dropped: times * (first + 3n),
  });
  const through = (name: string, times: bigint) => ({
    name,
    received: flow(times, 10n),
    sent: flow(times, 20n),
  });
  return {
    measuredAtMs: clock.now() - ageMs,
    interfaces: [through("eth0", 1n), through("net1", 2n)],
  };
}

/** The figures of a container or pod: when, and how much. */
export function figures(of: ContainerStats | PodSandboxStats["linux"] | undefined): unknown {
  const { cpu, memory } = of ?? {};
  return {
    cpu: [cpu?.timestamp, cpu?.usageCoreNanoSeconds?.value, cpu?.usageNanoCores?.value],
    memory: [memory?.timestamp, memory?.workingSetBytes?.value, memory?.rssBytes?.value],
  };
}

export const nanoseconds = (ms: number): bigint => BigInt(ms) * 1_000_000n;

/** Another container in the pod, with labels and a memory limit of 128 MiB. */
export async function addContainer({ runtime }: TestRuntime, pod: string): Promise<string> {
  return await createContainer(
    runtime,
    containerRequest(pod, {
      metadata: { name: "side", attempt: 2 },
      labels: { app: "side" },
      annotations: { note: "x" },
      linux: LinuxContainerConfig.fromPartial({
        resources: { memoryLimitInBytes: 128n * MEBIBYTE },
      }),
    }),
  );
}
