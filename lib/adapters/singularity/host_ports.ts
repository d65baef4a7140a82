import { CriError } from "../../base/error.ts";
import { shown } from "../../base/shown.ts";
import { NamespaceMode, type PodSandboxConfig } from "../../cri/api.generated.ts";

const EVERY_ADDRESS: readonly string[] = ["", "0.0.0.0", "::"];

/**
 * Network plugins lead a port of the node to one of the pod. A pod without a network of its own listens at the node's
 * ports itself, which is the same only where the numbers are. One that asks for the node's network has none led to it
 * by any runtime.
 * @throws CriError INVALID_ARGUMENT
 */
export function checkHostPorts(
  { portMappings, linux }: PodSandboxConfig,
  ownNetwork: boolean,
): void {
  const asksForNode = linux?.securityContext?.namespaceOptions?.network === NamespaceMode.NODE;
  if (ownNetwork || asksForNode) return;
  const other = portMappings.find(({ hostPort, containerPort }) =>
    hostPort !== 0 && hostPort !== containerPort
  );
  if (other !== undefined) {
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot give the pod the host port ${other.hostPort} for its port ${other.containerPort}: without ` +
        "--enable-pod-network pods listen at the node's ports, so the numbers must be the same.",
    );
  }
  const bound = portMappings.find(({ hostPort, hostIp }) =>
    hostPort !== 0 && !EVERY_ADDRESS.includes(hostIp)
  );
  if (bound === undefined) return;
  throw new CriError(
    "INVALID_ARGUMENT",
    `Cannot give the pod the host port ${bound.hostPort} at ${
      shown(bound.hostIp)
    } alone: without ` +
      "--enable-pod-network the pod's program chooses the addresses that it listens at, so host_ip must be left out.",
  );
}
