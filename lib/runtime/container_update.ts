import {
  LinuxContainerResources,
  type UpdateContainerResourcesRequest,
} from "../cri/api.generated.ts";
import { requireById } from "./lookup.ts";
import type { Runtime } from "./runtime.ts";

/** In an UpdateContainerResources: the administrator gives the container up. The kubelet sends no annotations. */
export const ABANDON_ANNOTATION = "multicri.io/abandon";

/**
 * UpdateContainerResources, as the kubelet's in-place resize of a pod asks for. Nothing is changed unless all is.
 * Before the start only the record changes: the start asks for what it says. After the end, also one that comes
 * meanwhile, there is nothing to change, and that is no failure, as with containerd: a kubelet would repeat it.
 * @throws CriError NOT_FOUND without the container, FAILED_PRECONDITION when the adapter cannot; the kubelet then keeps
 * the resize in progress and tries again (kuberuntime_manager.go).
 */
export async function updateContainerResources(
  runtime: Runtime,
  { containerId, linux, annotations }: UpdateContainerResourcesRequest,
): Promise<void> {
  const { containers } = runtime.store;
  const { id } = requireById(containers, "container", containerId);
  await runtime.locks.runExclusive(id, async () => {
    const container = requireById(containers, "container", id);
    if (container.state.phase === "exited") return;
    if (annotations[ABANDON_ANNOTATION] === "true") {
      return await runtime.adapter.abandonContainer(id);
    }
    const before = container.config.linux?.resources;
    const after = combine(before, linux);
    try {
      await runtime.adapter.updateResources(container, { before, after, annotations });
    } catch (error) {
      if (containers.get(id)?.state.phase === "exited") return;
      throw error;
    }
    containers.update(id, (record) => ({
      ...record,
      config: {
        ...record.config,
        linux: { securityContext: undefined, ...record.config.linux, resources: after },
      },
    }));
  });
}

/**
 * What is not given, zero or empty (api.proto: "not specified"), stays as it was; but a limit for memory comes without
 * the earlier one for memory and swap together, as with containerd: that one may be lower, or allow to swap.
 */
function combine(
  before: LinuxContainerResources | undefined,
  change: LinuxContainerResources | undefined,
): LinuxContainerResources {
  const given = Object.entries(change ?? {}).filter(([, value]) =>
    typeof value === "object" ? Object.keys(value).length > 0 : Boolean(value)
  );
  const swap = change?.memoryLimitInBytes ? { memorySwapLimitInBytes: 0n } : {};
  return LinuxContainerResources.fromPartial({ ...before, ...swap, ...Object.fromEntries(given) });
}
