import { CriError } from "../../../base/error.ts";
import { type IDMapping, NamespaceMode, type NamespaceOption } from "../../../cri/api.generated.ts";

/** How the ids of a user namespace are those of the node: `size` of them (OCI runtime-spec, config-linux.md). */
export interface OciIdMapping {
  containerID: number;
  hostID: number;
  size: number;
}

/** Ids are 32 bits wide, and the highest is none (user_namespaces(7)). */
export const HIGHEST_ID = 2 ** 32 - 2;

/** A pod's users and groups on the node. */
export interface UserNamespace {
  uids: OciIdMapping;
  gids: OciIdMapping;
}

/**
 * The user namespace that a pod asks for, if it does.
 * @throws CriError INVALID_ARGUMENT for one that cannot be made here, or should not be.
 */
export function userNamespaceOf(options: NamespaceOption | undefined): UserNamespace | undefined {
  const asked = options?.usernsOptions;
  if (options === undefined || asked === undefined || asked.mode === NamespaceMode.NODE) {
    return undefined;
  }
  if (asked.mode !== NamespaceMode.POD) {
    throw refused("its mode must be POD or NODE");
  }
  const nodes = [options.network, options.pid, options.ipc];
  if (nodes.includes(NamespaceMode.NODE)) {
    throw refused("the pod must not share the node's network, processes or IPC");
  }
  return { uids: onlyMapping(asked.uids, "uids"), gids: onlyMapping(asked.gids, "gids") };
}

/** As the kubelet sends them: one range that begins with the container's root. */
function onlyMapping(mappings: readonly IDMapping[], name: string): OciIdMapping {
  const [first, ...rest] = mappings;
  if (first === undefined || rest.length > 0) {
    throw refused(`there must be one mapping of its ${name}, not ${mappings.length}`);
  }
  if (first.containerId !== 0 || first.length === 0) {
    throw refused(
      `the mapping of its ${name} must begin with the container's id 0, and not be empty`,
    );
  }
  if (first.hostId === 0) {
    throw refused(`the mapping of its ${name} must not begin with the node's root, the id 0`);
  }
  if (first.hostId + first.length - 1 > HIGHEST_ID) {
    throw refused(
      `the mapping of its ${name} must end with the node's id ${HIGHEST_ID} at most: ` +
        `${first.length} ids from ${first.hostId} do not`,
    );
  }
  return { containerID: 0, hostID: first.hostId, size: first.length };
}

function refused(why: string): CriError {
  return new CriError("INVALID_ARGUMENT", `Cannot give the pod a user namespace: ${why}.`);
}
