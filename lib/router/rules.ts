import type { RpcKey } from "../cri/service.ts";

/** How the backend of a call is found, or the backends. */
export type Rule =
  /** Ours alone: it is about this process. */
  | { by: "own" }
  /** By the sandbox or container whose id is field 1 of the request. `changes` what the lists show. */
  | { by: "sandbox" | "container"; changes?: true }
  /** By the RuntimeClass handler in field `handler` of the request, for the pod in field `config`. */
  | { by: "handler"; handler: number; config: number }
  /** By the ImageSpec in field 1: its id, name, annotations or handler, or by the sandbox it is for. */
  | { by: "image" }
  /** Every backend is asked and the answers are joined. */
  | { by: "list" }
  /** As `list`, in several messages; a backend without it is asked by `list` instead. */
  | { by: "listStream"; list: RpcKey }
  /** Every backend's part in a way of its own. */
  | { by: "status" | "runtimeConfig" | "updateRuntimeConfig" | "events" };

/** The routing rule of every RPC of CRI v1. */
export const RULES: { readonly [K in RpcKey]: Rule } = {
  version: { by: "own" },
  status: { by: "status" },
  runtimeConfig: { by: "runtimeConfig" },
  updateRuntimeConfig: { by: "updateRuntimeConfig" },

  runPodSandbox: { by: "handler", handler: 2, config: 1 },
  stopPodSandbox: { by: "sandbox", changes: true },
  removePodSandbox: { by: "sandbox", changes: true },
  podSandboxStatus: { by: "sandbox" },
  updatePodSandboxResources: { by: "sandbox" },
  portForward: { by: "sandbox" },
  checkpointPod: { by: "sandbox" },
  restorePod: { by: "handler", handler: 3, config: 2 },

  createContainer: { by: "sandbox", changes: true },
  startContainer: { by: "container", changes: true },
  stopContainer: { by: "container", changes: true },
  removeContainer: { by: "container", changes: true },
  containerStatus: { by: "container" },
  updateContainerResources: { by: "container" },
  reopenContainerLog: { by: "container" },
  execSync: { by: "container" },
  exec: { by: "container" },
  attach: { by: "container" },
  checkpointContainer: { by: "container" },

  containerStats: { by: "container" },
  podSandboxStats: { by: "sandbox" },

  listPodSandbox: { by: "list" },
  listContainers: { by: "list" },
  listContainerStats: { by: "list" },
  listPodSandboxStats: { by: "list" },
  listPodSandboxMetrics: { by: "list" },
  listMetricDescriptors: { by: "list" },
  listImages: { by: "list" },
  imageFsInfo: { by: "list" },

  streamPodSandboxes: { by: "listStream", list: "listPodSandbox" },
  streamContainers: { by: "listStream", list: "listContainers" },
  streamContainerStats: { by: "listStream", list: "listContainerStats" },
  streamPodSandboxStats: { by: "listStream", list: "listPodSandboxStats" },
  streamPodSandboxMetrics: { by: "listStream", list: "listPodSandboxMetrics" },
  streamImages: { by: "listStream", list: "listImages" },

  getContainerEvents: { by: "events" },

  imageStatus: { by: "image" },
  pullImage: { by: "image" },
  removeImage: { by: "image" },
};
