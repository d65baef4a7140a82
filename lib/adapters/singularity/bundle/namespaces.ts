import { CriError } from "../../../base/error.ts";
import {
  type LinuxContainerSecurityContext,
  NamespaceMode,
  type NamespaceOption,
} from "../../../cri/api.generated.ts";
import type { OciNamespace } from "./oci_spec.ts";

/** Namespaces that a pod's containers share, as paths; absent ones are the node's. */
export interface PodNamespaces {
  network?: string;
  ipc?: string;
  uts?: string;
  /** Only where the pod's containers share their processes. */
  pid?: string;
}

/** @throws CriError INVALID_ARGUMENT for a mode that is none (api.proto). */
export function checkNamespaceModes(options: NamespaceOption | undefined): void {
  if (options === undefined) return;
  for (const name of ["network", "pid", "ipc"] as const) {
    if (NamespaceMode[options[name]] !== undefined) continue;
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot use the mode ${
        options[name]
      } of the ${name} namespace: it must be POD, CONTAINER, NODE or TARGET.`,
    );
  }
}

/**
 * The namespaces that a container is in; those that are not listed are the node's.
 * @param target The process namespace of the container that it looks into, with mode TARGET.
 */
export function namespacesOf(
  context: LinuxContainerSecurityContext | undefined,
  pod: PodNamespaces,
  target: string | undefined,
): OciNamespace[] {
  const shared = (["network", "ipc", "uts"] as const).flatMap((type) => {
    const path = pod[type];
    return path === undefined ? [] : [{ type, path }];
  });
  return [{ type: "mount" }, ...shared, ...pidNamespace(context, pod, target)];
}

function pidNamespace(
  context: LinuxContainerSecurityContext | undefined,
  pod: PodNamespaces,
  target: string | undefined,
): OciNamespace[] {
  // POD is CRI's default (api.proto).
  switch (context?.namespaceOptions?.pid ?? NamespaceMode.POD) {
    case NamespaceMode.NODE:
      return [];
    case NamespaceMode.TARGET:
      return target === undefined ? [{ type: "pid" }] : [{ type: "pid", path: target }];
    case NamespaceMode.POD:
      return pod.pid === undefined ? [{ type: "pid" }] : [{ type: "pid", path: pod.pid }];
    default:
      return [{ type: "pid" }];
  }
}
