import { CriError } from "../../../base/error.ts";
import { shown } from "../../../base/shown.ts";
import {
  type LinuxContainerSecurityContext,
  type LinuxSandboxSecurityContext,
  SecurityProfile_ProfileType,
} from "../../../cri/api.generated.ts";
import type { NodeFacts } from "../node.ts";
import type { OciProcess } from "./oci_spec.ts";

/**
 * Checks that what the kernel's security modules are to enforce is enforced, and that the pod allows what its container
 * is allowed. A privileged container has neither AppArmor nor SELinux (api.proto).
 * @throws CriError INVALID_ARGUMENT for a privileged container in a pod without, FAILED_PRECONDITION for what this node
 * cannot do.
 */
export function checkAccessControl(
  context: LinuxContainerSecurityContext | undefined,
  pod: LinuxSandboxSecurityContext | undefined,
  { hasSelinux }: Pick<NodeFacts, "hasSelinux">,
): void {
  if (context?.privileged) {
    if (pod?.privileged) return;
    throw new CriError(
      "INVALID_ARGUMENT",
      "Cannot run a privileged container in a pod that is not: the sandbox's security context must set privileged.",
    );
  }
  // Where there is no SELinux its labels mean nothing, and Kubernetes says so.
  if (!hasSelinux || context?.selinuxOptions === undefined) return;
  throw new CriError(
    "FAILED_PRECONDITION",
    "Cannot run the container with SELinux options: containers are not labelled on this node; leave them out.",
  );
}

/**
 * The AppArmor profile of a container's program, if it has one.
 * @throws CriError FAILED_PRECONDITION for one that this node does not have.
 */
export function apparmorOf(
  context: LinuxContainerSecurityContext | undefined,
  { hasAppArmor }: Pick<NodeFacts, "hasAppArmor">,
): Pick<OciProcess, "apparmorProfile"> {
  if (context === undefined || context.privileged) return {};
  const type = context.apparmor?.profileType;
  if (type !== undefined && SecurityProfile_ProfileType[type] === undefined) {
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot run the container with an AppArmor profile of the type ${type}: it must be RuntimeDefault, Unconfined or ` +
        "Localhost.",
    );
  }
  const profile = askedProfile(context);
  if (profile === undefined) return {};
  if (profile === "default") {
    if (!hasAppArmor) return {};
    throw new CriError(
      "FAILED_PRECONDITION",
      "Cannot run the container with the runtime's default AppArmor profile: there is none; name a profile of the " +
        "node (Localhost), or choose Unconfined.",
    );
  }
  if (profile.name === "") {
    throw new CriError(
      "INVALID_ARGUMENT",
      "Cannot run the container with an AppArmor profile of the node without its name: give it as localhostProfile.",
    );
  }
  if (hasAppArmor) return { apparmorProfile: profile.name };
  throw new CriError(
    "FAILED_PRECONDITION",
    `Cannot run the container with the AppArmor profile ${
      shown(profile.name)
    }: this node's kernel has no AppArmor.`,
  );
}

/** By the newer field, or by the words of the older one (api.proto). */
function askedProfile(
  { apparmor, apparmorProfile }: LinuxContainerSecurityContext,
): "default" | { name: string } | undefined {
  const isLocal = apparmor === undefined
    ? !["", "unconfined", "runtime/default"].includes(apparmorProfile)
    : apparmor.profileType === SecurityProfile_ProfileType.Localhost;
  if (isLocal) {
    return { name: (apparmor?.localhostRef ?? apparmorProfile).replace(/^localhost\//, "") };
  }
  const isDefault = apparmor === undefined
    ? apparmorProfile === "runtime/default"
    : apparmor.profileType === SecurityProfile_ProfileType.RuntimeDefault;
  return isDefault ? "default" : undefined;
}
