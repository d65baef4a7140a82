import { CriError } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import { NamespaceMode, type PodSandboxConfig } from "../cri/api.generated.ts";
import type { PodNetworks } from "../network/pod_networks.ts";
import type { Store } from "../store/store.ts";

/** Whether a pod has a network of its own, where pods have one, and not the node's. */
export function hasOwnNetwork(config: PodSandboxConfig): boolean {
  return config.linux?.securityContext?.namespaceOptions?.network !== NamespaceMode.NODE;
}

/**
 * The namespace of a pod's own network, as a path; undefined for a pod in the node's network.
 * @throws CriError UNAVAILABLE when the pod's own is not there: after a reboot it is made anew, and a container in the
 * node's meanwhile would stay there for its life. FAILED_PRECONDITION when the pod was made with the other choice of
 * --enable-pod-network than this server has.
 */
export function networkPath(
  networks: PodNetworks | undefined,
  { networkAttachments, sandboxes }: Pick<Store, "networkAttachments" | "sandboxes">,
  sandboxId: string,
  config: PodSandboxConfig,
): string | undefined {
  if (!hasOwnNetwork(config)) return undefined;
  const network = networks?.of(sandboxId);
  if (network !== undefined) return network.netnsPath;
  const isAttached = networkAttachments.get(sandboxId) !== undefined;
  if (networks === undefined && isAttached) {
    throw new CriError(
      "FAILED_PRECONDITION",
      `The pod ${sandboxId} has a network of its own, which only a server with --enable-pod-network can use: ` +
        "start it so, or remove the pod.",
    );
  }
  if (networks === undefined) return undefined;
  if (!isAttached && sandboxes.get(sandboxId) !== undefined) {
    throw new CriError(
      "FAILED_PRECONDITION",
      `The pod ${sandboxId} has no network of its own, as it was made without --enable-pod-network: remove it, ` +
        "so that it is made anew with one.",
    );
  }
  throw new CriError(
    "UNAVAILABLE",
    `The pod ${sandboxId} has no network at present: it is made anew as soon as the node's network can be used; try again.`,
  );
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
