import type { Logger } from "../base/log.ts";
import { NamespaceMode, type PodSandboxConfig } from "../cri/api.generated.ts";
import type { PodNetworks } from "../network/pod_networks.ts";
import type { Store } from "../store/store.ts";

/** Whether a pod has a network of its own, where pods have one, and not the node's. */
export function hasOwnNetwork(config: PodSandboxConfig): boolean {
  return config.linux?.securityContext?.namespaceOptions?.network !== NamespaceMode.NODE;
}

/** Brings the networks that an earlier server has left in line with the sandboxes; before the socket is opened. */
export async function recoverSandboxNetworks(
  networks: PodNetworks | undefined,
  store: Store,
  log: Logger,
): Promise<void> {
  if (networks !== undefined) {
    return await networks.recover((id) => {
      const sandbox = store.sandboxes.get(id);
      return sandbox?.state === "ready" ? sandbox.config : undefined;
    });
  }
  const left = store.networkAttachments.all().length;
  if (left === 0) return;
  log.warning(
    `${left} pods have networks, which only a server with --enable-pod-network can remove: start it so once`,
  );
}
