import { CriError } from "../../../base/error.ts";
import { shown } from "../../../base/shown.ts";
import { type IDMapping, type Mount, MountPropagation } from "../../../cri/api.generated.ts";
import { placeInContainer } from "../../container_path.ts";
import { checkPath } from "./paths.ts";
import type { OciMount } from "./oci_spec.ts";
import { HIGHEST_ID, type OciIdMapping } from "./user_namespace.ts";

/** A mount of the pod with its source as it is, symbolic links followed. */
export interface FoundMount {
  mount: Mount;
  source: string;
}

const PROPAGATIONS: Record<MountPropagation, string> = {
  [MountPropagation.PROPAGATION_PRIVATE]: "rprivate",
  [MountPropagation.PROPAGATION_HOST_TO_CONTAINER]: "rslave",
  [MountPropagation.PROPAGATION_BIDIRECTIONAL]: "rshared",
};

/** What a bind mount can be told beside that (mount(8)); others the kernel would ignore without a word. */
const OPTIONS = [
  ...["ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "nosymfollow"],
  ...["atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime", "strictatime"],
];

/** Files of /proc in whose place a file system that knows the container's limits (lxcfs) may show others. */
const REPLACEABLE = [
  ...["cpuinfo", "diskstats", "loadavg", "meminfo", "slabinfo", "stat", "swaps", "uptime"],
];

/**
 * A mount that the pod asks for, as crun takes it.
 * @throws CriError INVALID_ARGUMENT for what cannot be, and for options that do not go together (api.proto, Mount).
 */
export function askedMount({ mount, source }: FoundMount): OciMount {
  const { readonly, recursiveReadOnly, propagation, image, mountOptions } = mount;
  if (PROPAGATIONS[propagation] === undefined) {
    throw refusal(mount, `its propagation ${propagation} is none that there is`);
  }
  const destination = destinationOf(mount, source);
  const isPrivate = propagation === MountPropagation.PROPAGATION_PRIVATE;
  if (recursiveReadOnly && (!readonly || !isPrivate)) {
    throw refusal(
      mount,
      "to be recursively read-only it must be read-only, and its propagation must be private",
    );
  }
  const unknown = mountOptions.find((option) => !OPTIONS.includes(option));
  if (unknown !== undefined) {
    throw refusal(
      mount,
      `${shown(unknown)} is no option of a bind mount; these are ${OPTIONS.join(", ")}`,
    );
  }
  // Images are always read-only, and have nothing mounted in them.
  const isReadOnly = readonly || image?.image !== undefined && image.image !== "" ||
    mountOptions.includes("ro");
  const mode = recursiveReadOnly ? "rro" : isReadOnly ? "ro" : "rw";
  const mappings = [...mount.uidMappings, ...mount.gidMappings];
  if (mappings.some((mapping) => !isPossible(mapping))) {
    throw refusal(mount, "its mappings of ids must not be empty, and end before 4294967295");
  }
  const isMapped = mount.uidMappings.length > 0 || mount.gidMappings.length > 0;
  return {
    destination,
    type: "bind",
    source,
    options: [
      "rbind",
      PROPAGATIONS[propagation],
      ...mountOptions,
      mode,
      ...(isMapped ? ["idmap"] : []),
    ],
    ...(isMapped
      ? {
        uidMappings: mount.uidMappings.map(ociMapping),
        gidMappings: mount.gidMappings.map(ociMapping),
      }
      : {}),
  };
}

/** Absolute, without `.`, `..` and empty parts. */
function destinationOf(mount: Mount, source: string): string {
  const { containerPath } = mount;
  checkPath("place of a mount", containerPath, false);
  const destination = placeInContainer(mount);
  if (containerPath === "" || destination === "/") {
    throw refusal(mount, "it must be a path below / in the container");
  }
  // crun confines programs by what it writes there, and a pod could put something else in its place.
  const isOwn = destination === "/proc"
    ? source !== "/proc"
    : destination.startsWith("/proc/") && !REPLACEABLE.includes(destination.slice("/proc/".length));
  if (isOwn) {
    throw refusal(mount, "nothing can be mounted at or below /proc but the node's own /proc");
  }
  return destination;
}

function refusal({ hostPath, image, containerPath }: Mount, why: string): CriError {
  return new CriError(
    "INVALID_ARGUMENT",
    `Cannot mount ${shown(image?.image || hostPath)} at ${shown(containerPath)}: ${why}.`,
  );
}

function isPossible({ containerId, hostId, length }: IDMapping): boolean {
  return length > 0 && Math.max(containerId, hostId) + length - 1 <= HIGHEST_ID;
}

function ociMapping({ containerId, hostId, length }: IDMapping): OciIdMapping {
  return { containerID: containerId, hostID: hostId, size: length };
}
