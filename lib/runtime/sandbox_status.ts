import {
  type ContainerStatus,
  type PodSandbox,
  type PodSandboxFilter,
  PodSandboxState,
  PodSandboxStatus,
  PodSandboxStatusResponse,
} from "../cri/api.generated.ts";
import type { SandboxRecord } from "../store/records.ts";
import { containerStatus } from "./container_status.ts";
import { matchesLabels, requireById } from "./lookup.ts";
import { hasOwnNetwork } from "./sandbox_network.ts";
import { type Runtime, toInfo, toNanoseconds } from "./runtime.ts";

/**
 * PodSandboxStatus.
 * @throws CriError NOT_FOUND, which tells the kubelet that the sandbox is gone.
 */
export function podSandboxStatus(
  runtime: Runtime,
  sandboxId: string,
  verbose: boolean,
): PodSandboxStatusResponse {
  const sandbox = requireById(runtime.store.sandboxes, "pod sandbox", sandboxId);
  return PodSandboxStatusResponse.fromPartial({
    status: sandboxStatus(runtime, sandbox),
    info: verbose
      ? {
        info: toInfo({
          adapter: runtime.adapter.name,
          config: sandbox.config,
          network: runtime.networks?.of(sandbox.id),
        }),
      }
      : {},
    containersStatuses: containerStatusesOf(runtime, sandbox.id),
    timestamp: toNanoseconds(runtime.clock.now()),
  });
}

/** The status of one sandbox. */
export function sandboxStatus(runtime: Runtime, sandbox: SandboxRecord): PodSandboxStatus {
  const options = sandbox.config.linux?.securityContext?.namespaceOptions;
  const [ip = "", ...others] = podAddresses(runtime, sandbox);
  return PodSandboxStatus.fromPartial({
    ...listed(sandbox),
    network: { ip, additionalIps: others.map((ip) => ({ ip })) },
    linux: { namespaces: { options: options ?? {} } },
  });
}

/**
 * The kubelet fills in its own with hostNetwork, and recreates any other pod without an address for ever; so one that
 * is in service and has no network, as when networks came to the node later, has the node's.
 */
function podAddresses(
  { networks, nodeAddress }: Runtime,
  { id, config, state }: SandboxRecord,
): readonly string[] {
  if (!hasOwnNetwork(config)) return [];
  if (networks === undefined) return [nodeAddress];
  return networks.of(id)?.addresses ?? (state === "ready" ? [nodeAddress] : []);
}

/** The statuses of a sandbox's containers. */
export function containerStatusesOf(runtime: Runtime, sandboxId: string): ContainerStatus[] {
  return runtime.store.containers.all()
    .filter((container) => container.sandboxId === sandboxId)
    .map((container) => containerStatus(runtime, container));
}

/** ListPodSandbox. */
export function listPodSandboxes(
  runtime: Runtime,
  filter: PodSandboxFilter | undefined,
): PodSandbox[] {
  return runtime.store.sandboxes.all().map(listed).filter((sandbox) =>
    sandbox.id.startsWith(filter?.id ?? "") &&
    (filter?.state === undefined || filter.state.state === sandbox.state) &&
    matchesLabels(sandbox.labels, filter?.labelSelector)
  );
}

function listed(sandbox: SandboxRecord): PodSandbox {
  return {
    id: sandbox.id,
    metadata: sandbox.config.metadata,
    state: sandbox.state === "ready"
      ? PodSandboxState.SANDBOX_READY
      : PodSandboxState.SANDBOX_NOTREADY,
    createdAt: toNanoseconds(sandbox.createdAtMs),
    labels: sandbox.config.labels,
    annotations: sandbox.config.annotations,
    runtimeHandler: sandbox.runtimeHandler,
  };
}
