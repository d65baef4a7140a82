import { CriError } from "../base/error.ts";
import {
  Container,
  ContainerStats,
  Image,
  PodSandbox,
  PodSandboxMetrics,
  PodSandboxStats,
} from "../cri/api.generated.ts";
import { type CriHandlers } from "../cri/service.ts";
import { createContainer } from "./container_create.ts";
import { containerEvents } from "./container_events.ts";
import { execSync } from "./container_exec.ts";
import { removeContainer } from "./container_remove.ts";
import { containerStats, listContainerStats } from "./container_stats.ts";
import { startContainer } from "./container_start.ts";
import { containerStatusResponse, listContainers } from "./container_status.ts";
import { attach, exec, portForward } from "./container_stream.ts";
import { stopContainer } from "./container_stop.ts";
import { updateContainerResources } from "./container_update.ts";
import { requireById } from "./lookup.ts";
import { measureContainers, measurePods } from "./measure.ts";
import { listPodSandboxMetrics, metricDescriptors } from "./metrics.ts";
import type { Runtime } from "./runtime.ts";
import { removePodSandbox } from "./sandbox_remove.ts";
import { runPodSandbox } from "./sandbox_run.ts";
import { listPodSandboxStats, podSandboxStats } from "./sandbox_stats.ts";
import { listPodSandboxes, podSandboxStatus } from "./sandbox_status.ts";
import { stopPodSandbox } from "./sandbox_stop.ts";
import { streamedList } from "./streamed_list.ts";
import { runtimeConfig, runtimeStatus, version } from "./status.ts";

/** Our own CRI, RPC by RPC; what is missing here answers `notBuiltYet`. */
export function runtimeHandlers(runtime: Runtime): Partial<CriHandlers> {
  const { images } = runtime;
  return {
    version: () => Promise.resolve(version()),
    status: async (request) => await runtimeStatus(runtime, request.verbose),
    runtimeConfig: () => Promise.resolve(runtimeConfig(runtime)),
    // The pod CIDR is the only setting there is.
    updateRuntimeConfig: async (request) => {
      await runtime.networks?.usePodCidr(request.runtimeConfig?.networkConfig?.podCidr ?? "");
      return {};
    },

    runPodSandbox: async (request, { signal }) => ({
      podSandboxId: await runPodSandbox(runtime, request, signal),
    }),
    stopPodSandbox: async (request, { signal }) => {
      await stopPodSandbox(runtime, request.podSandboxId, signal);
      return {};
    },
    removePodSandbox: async (request, { signal }) => {
      await removePodSandbox(runtime, request.podSandboxId, signal);
      return {};
    },
    podSandboxStatus: async (request) =>
      await podSandboxStatus(runtime, request.podSandboxId, request.verbose),
    listPodSandbox: async (request) => ({ items: await listPodSandboxes(runtime, request.filter) }),

    // A sandbox has no resources of its own: what is asked for are its containers' sums.
    updatePodSandboxResources: async (request) => {
      await requireById(runtime.store.sandboxes, "pod sandbox", request.podSandboxId);
      return {};
    },

    createContainer: async (request) => ({ containerId: await createContainer(runtime, request) }),
    startContainer: async (request, { signal }) => {
      await startContainer(runtime, request.containerId, signal);
      return {};
    },
    stopContainer: async (request, { signal }) => {
      await stopContainer(runtime, request.containerId, request.timeout, signal);
      return {};
    },
    removeContainer: async (request, { signal }) => {
      await removeContainer(runtime, request.containerId, signal);
      return {};
    },
    containerStatus: async (request) =>
      await containerStatusResponse(runtime, request.containerId, request.verbose),
    listContainers: async (request) => ({
      containers: await listContainers(runtime, request.filter),
    }),
    updateContainerResources: async (request) => {
      await updateContainerResources(runtime, request);
      return {};
    },
    reopenContainerLog: async (request) => {
      const container = requireById(runtime.store.containers, "container", request.containerId);
      if (container.state.phase !== "running") {
        throw new CriError(
          "FAILED_PRECONDITION",
          `Cannot reopen the log of the container ${container.id}: it must be running, but it is ` +
            `${container.state.phase}.`,
        );
      }
      await runtime.adapter.reopenLog(container.id);
      return {};
    },

    execSync: async (request, { signal }) => await execSync(runtime, request, signal),
    exec: async (request, { signal }) => ({ url: await exec(runtime, request, signal) }),
    attach: async (request, { signal }) => ({ url: await attach(runtime, request, signal) }),
    portForward: async (request, { signal }) => ({
      url: await portForward(runtime, request, signal),
    }),

    // An error of one of the lists would cost the kubelet its statistics of the whole node, and with them eviction
    // (kubelet 1.37, cri_stats_provider.go).
    containerStats: async (request) => {
      await measureContainers(runtime);
      return { stats: containerStats(runtime, request.containerId) };
    },
    listContainerStats: async (request) => {
      await measureContainers(runtime);
      return { stats: listContainerStats(runtime, request.filter) };
    },
    podSandboxStats: async (request) => {
      await measurePods(runtime);
      return { stats: podSandboxStats(runtime, request.podSandboxId) };
    },
    listPodSandboxStats: async (request) => {
      await measurePods(runtime);
      return { stats: listPodSandboxStats(runtime, request.filter) };
    },
    listMetricDescriptors: () => Promise.resolve({ descriptors: metricDescriptors() }),
    listPodSandboxMetrics: async () => {
      await measurePods(runtime);
      return { podMetrics: listPodSandboxMetrics(runtime) };
    },
    getContainerEvents: (_request, { signal }) => containerEvents(runtime, signal),

    streamPodSandboxes: ({ filter }) =>
      streamedList(
        () => listPodSandboxes(runtime, filter),
        PodSandbox,
        (podSandboxes) => ({ podSandboxes }),
      ),
    streamContainers: ({ filter }) =>
      streamedList(
        () => listContainers(runtime, filter),
        Container,
        (containers) => ({ containers }),
      ),
    streamContainerStats: ({ filter }) =>
      streamedList(
        async () => {
          await measureContainers(runtime);
          return listContainerStats(runtime, filter);
        },
        ContainerStats,
        (containerStats) => ({ containerStats }),
      ),
    streamPodSandboxStats: ({ filter }) =>
      streamedList(
        async () => {
          await measurePods(runtime);
          return listPodSandboxStats(runtime, filter);
        },
        PodSandboxStats,
        (podSandboxStats) => ({ podSandboxStats }),
      ),
    streamPodSandboxMetrics: () =>
      streamedList(
        async () => {
          await measurePods(runtime);
          return listPodSandboxMetrics(runtime);
        },
        PodSandboxMetrics,
        (podSandboxMetrics) => ({ podSandboxMetrics }),
      ),
    streamImages: ({ filter }) =>
      streamedList(
        () => images.list(filter?.image?.image),
        Image,
        (images) => ({ images }),
      ),

    listImages: async (request) => ({ images: await images.list(request.filter?.image?.image) }),
    imageStatus: async (request) => await images.status(request.image, request.verbose),
    pullImage: async (request, { signal }) => ({ imageRef: await images.pull(request, signal) }),
    removeImage: async (request) => {
      await images.remove(request.image?.image ?? "");
      return {};
    },
    imageFsInfo: async () => await images.fsInfo(runtime.adapter.layersUsage?.()),
  };
}

/** RPCs that no adapter will have. */
const IMPOSSIBLE: readonly string[] = ["CheckpointContainer", "CheckpointPod", "RestorePod"];

/** Why, by the adapter's name. */
const WHY_IMPOSSIBLE: Readonly<Record<string, string>> = {
  slurm:
    "CRIU needs rights on the compute node that a job of an ordinary user does not have. Let the program write " +
    "checkpoints of its own into $MULTICRI_RESULTS_DIR.",
  singularity:
    "a checkpoint would have to hold the pod's network and the image in the pool, which CRIU cannot bring " +
    "to another node. Let the program write checkpoints of its own into a volume.",
};

/** What an RPC answers that is not here. */
export function notBuiltYet(adapterName: string): (rpc: string) => string {
  return (rpc) =>
    IMPOSSIBLE.includes(rpc)
      ? `${rpc} is not possible: ${WHY_IMPOSSIBLE[adapterName] ?? "this adapter has none"}`
      : `${rpc} is not available in this version of multicri; the README lists what is.`;
}
