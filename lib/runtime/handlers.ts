import { CriError } from "../base/error.ts";
import { type CriHandlers } from "../cri/service.ts";
import { createContainer } from "./container_create.ts";
import { execSync } from "./container_exec.ts";
import { removeContainer } from "./container_remove.ts";
import { startContainer } from "./container_start.ts";
import { containerStatusResponse, listContainers } from "./container_status.ts";
import { attach, exec, portForward } from "./container_stream.ts";
import { stopContainer } from "./container_stop.ts";
import { requireById } from "./lookup.ts";
import type { Runtime } from "./runtime.ts";
import { removePodSandbox } from "./sandbox_remove.ts";
import { runPodSandbox } from "./sandbox_run.ts";
import { listPodSandboxes, podSandboxStatus } from "./sandbox_status.ts";
import { stopPodSandbox } from "./sandbox_stop.ts";
import { runtimeConfig, runtimeStatus, version } from "./status.ts";

/** Our own CRI, RPC by RPC; what is missing here answers `notBuiltYet`. */
export function runtimeHandlers(runtime: Runtime): Partial<CriHandlers> {
  const { images } = runtime;
  return {
    version: () => Promise.resolve(version()),
    status: (request) => Promise.resolve(runtimeStatus(runtime, request.verbose)),
    runtimeConfig: () => Promise.resolve(runtimeConfig(runtime)),
    // The pod CIDR, the only setting there is, is for runtimes that give pods a network.
    updateRuntimeConfig: () => Promise.resolve({}),

    runPodSandbox: async (request) => ({ podSandboxId: await runPodSandbox(runtime, request) }),
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

    // Our containers use nothing of this node. An error here would cost the kubelet its stats of the whole node, and
    // with them eviction (kubelet 1.37, cri_stats_provider.go).
    listContainerStats: () => Promise.resolve({ stats: [] }),
    listPodSandboxStats: () => Promise.resolve({ stats: [] }),

    listImages: async (request) => ({ images: await images.list(request.filter?.image?.image) }),
    imageStatus: async (request) => await images.status(request.image, request.verbose),
    pullImage: async (request, { signal }) => ({ imageRef: await images.pull(request, signal) }),
    removeImage: async (request) => {
      await images.remove(request.image?.image ?? "");
      return {};
    },
    imageFsInfo: async () => await images.fsInfo(),
  };
}

/** What an RPC that is not built yet answers. */
export function notBuiltYet(rpc: string): string {
  return `${rpc} is not available in this version of multicri; the README lists what is.`;
}
