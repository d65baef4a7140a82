import { join } from "@std/path";
import {
  type Container,
  type ContainerConfig,
  type ContainerFilter,
  ContainerState,
  ContainerStatus,
  ContainerStatusResponse,
} from "../cri/api.generated.ts";
import type { ContainerRecord } from "../store/records.ts";
import { matchesLabels, requireById } from "./lookup.ts";
import { type Runtime, toInfo, toNanoseconds } from "./runtime.ts";

/** "starting" is not running yet: nothing was accepted by the cluster. */
const CRI_STATES = {
  created: ContainerState.CONTAINER_CREATED,
  starting: ContainerState.CONTAINER_CREATED,
  running: ContainerState.CONTAINER_RUNNING,
  exited: ContainerState.CONTAINER_EXITED,
} as const;

/**
 * ContainerStatus as a response, with the adapter's knowledge in `info` when `verbose`.
 * @throws CriError NOT_FOUND.
 */
export function containerStatusResponse(
  runtime: Runtime,
  containerId: string,
  verbose: boolean,
): ContainerStatusResponse {
  const container = requireById(runtime.store.containers, "container", containerId);
  const info = () => ({
    sandboxID: container.sandboxId,
    adapter: runtime.adapter.name,
    ...runtime.adapter.describeContainer(container),
  });
  return ContainerStatusResponse.fromPartial({
    status: containerStatus(runtime, container),
    info: verbose ? { info: toInfo(info()) } : {},
  });
}

/** The status of one container. */
export function containerStatus(runtime: Runtime, container: ContainerRecord): ContainerStatus {
  const { config, state } = container;
  const sandbox = runtime.store.sandboxes.get(container.sandboxId);
  const logDirectory = sandbox?.config.logDirectory ?? "";
  return ContainerStatus.fromPartial({
    ...listed(container),
    // Which the kubelet shows as the image that runs, and which others can ask a registry for.
    imageRef: container.imageRepoDigest ?? container.imageId,
    startedAt: toNanoseconds("startedAtMs" in state ? state.startedAtMs : undefined),
    finishedAt: toNanoseconds(state.phase === "exited" ? state.finishedAtMs : undefined),
    exitCode: state.phase === "exited" ? state.exitCode : 0,
    reason: state.phase === "exited" ? state.reason : "",
    message: state.phase === "exited" ? state.message : "",
    mounts: config.mounts,
    logPath: config.logPath === "" ? "" : join(logDirectory, config.logPath),
    resources: config.linux?.resources === undefined ? {} : { linux: config.linux.resources },
    stopSignal: runtime.adapter.stopSignalOf(container),
    user: runtime.adapter.userOf?.(container),
  });
}

/** ListContainers. */
export function listContainers(
  runtime: Runtime,
  filter: ContainerFilter | undefined,
): Container[] {
  return runtime.store.containers.all()
    .map((container) => listed(container))
    .filter((container) =>
      container.id.startsWith(filter?.id ?? "") &&
      container.podSandboxId.startsWith(filter?.podSandboxId ?? "") &&
      (filter?.state === undefined || filter.state.state === container.state) &&
      matchesLabels(container.labels, filter?.labelSelector)
    );
}

/** The name that the image was asked for by, where the kubelet passes its id on. */
export function askedImage({ image }: Pick<ContainerConfig, "image">): string {
  return image?.userSpecifiedImage || image?.image || "";
}

function listed(container: ContainerRecord): Container {
  const { config } = container;
  return {
    id: container.id,
    podSandboxId: container.sandboxId,
    metadata: config.metadata,
    image: config.image === undefined ? undefined : { ...config.image, image: askedImage(config) },
    imageRef: container.imageId,
    state: CRI_STATES[container.state.phase],
    createdAt: toNanoseconds(container.createdAtMs),
    labels: config.labels,
    annotations: config.annotations,
    // The kubelet compares this with Image.id of ImageStatus and PullImage's answer.
    imageId: container.imageId,
  };
}
