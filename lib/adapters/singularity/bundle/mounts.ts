import { CriError } from "../../../base/error.ts";
import {
  type IDMapping,
  type LinuxContainerSecurityContext,
  type Mount,
  MountPropagation,
  NamespaceMode,
} from "../../../cri/api.generated.ts";
import type { OciMount } from "./oci_spec.ts";
import type { OciIdMapping } from "./user_namespace.ts";

/** Where the pod's own files lie that its containers share. */
export interface PodFiles {
  hosts: string;
  hostname: string;
  resolvConf: string;
  /** Absent where the node's own is used. */
  shm?: string;
}

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

/** All mounts of a container, in the order in which they are made. */
export function mountsOf(
  context: LinuxContainerSecurityContext | undefined,
  files: PodFiles,
  found: readonly FoundMount[],
): OciMount[] {
  const taken = new Set(found.map(({ mount }) => mount.containerPath.replace(/(?<=.)\/+$/, "")));
  const etcMode = context?.readonlyRootfs ? "ro" : "rw";
  const ofPod = [
    bind("/etc/hosts", files.hosts, etcMode),
    bind("/etc/hostname", files.hostname, etcMode),
    bind("/etc/resolv.conf", files.resolvConf, etcMode),
    bind("/dev/shm", files.shm ?? "/dev/shm", "rw"),
  ];
  const own = [...kernelMounts(context), ...ofPod]
    .filter(({ destination }) => !taken.has(destination));
  // What lies deeper is mounted later, whatever the order of the request.
  const asked = found.toSorted((a, b) =>
    depth(a.mount.containerPath) - depth(b.mount.containerPath)
  )
    .map(askedMount);
  return [...own, ...asked];
}

/** What the kernel shows of itself; only a privileged container may change it. */
function kernelMounts(context: LinuxContainerSecurityContext | undefined): OciMount[] {
  const mode = context?.privileged ? "rw" : "ro";
  const safe = ["nosuid", "noexec", "nodev"];
  const ipc = context?.namespaceOptions?.ipc === NamespaceMode.NODE;
  return [
    { destination: "/proc", type: "proc", source: "proc", options: safe },
    {
      destination: "/dev",
      type: "tmpfs",
      source: "tmpfs",
      options: ["nosuid", "strictatime", "mode=755", "size=65536k"],
    },
    {
      destination: "/dev/pts",
      type: "devpts",
      source: "devpts",
      options: ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    },
    ...(ipc
      ? []
      : [{ destination: "/dev/mqueue", type: "mqueue", source: "mqueue", options: safe }]),
    { destination: "/sys", type: "sysfs", source: "sysfs", options: [...safe, mode] },
    {
      destination: "/sys/fs/cgroup",
      type: "cgroup",
      source: "cgroup",
      options: [...safe, "relatime", mode],
    },
  ];
}

/** @throws CriError INVALID_ARGUMENT for options that do not go together (api.proto, Mount). */
function askedMount({ mount, source }: FoundMount): OciMount {
  const { containerPath, readonly, recursiveReadOnly, propagation, image } = mount;
  const isPrivate = propagation === MountPropagation.PROPAGATION_PRIVATE;
  if (recursiveReadOnly && (!readonly || !isPrivate)) {
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot mount ${
        JSON.stringify(containerPath)
      } recursively read-only: it must be read-only, and its ` +
        "propagation must be private.",
    );
  }
  // Images are always read-only, and have nothing mounted in them.
  const mode = recursiveReadOnly ? "rro" : readonly || image !== undefined ? "ro" : "rw";
  const mapped = mount.uidMappings.length > 0 || mount.gidMappings.length > 0;
  return {
    destination: containerPath,
    type: "bind",
    source,
    options: [
      "rbind",
      PROPAGATIONS[propagation] ?? "rprivate",
      mode,
      ...(mapped ? ["idmap"] : []),
      ...mount.mountOptions,
    ],
    ...(mapped
      ? {
        uidMappings: mount.uidMappings.map(ociMapping),
        gidMappings: mount.gidMappings.map(ociMapping),
      }
      : {}),
  };
}

/** The propagation that the container's own root needs, so that mounts pass where one is to let them. */
export function rootPropagation(mounts: readonly Mount[]): string {
  const asked = new Set(mounts.map(({ propagation }) => propagation));
  if (asked.has(MountPropagation.PROPAGATION_BIDIRECTIONAL)) return "rshared";
  return asked.has(MountPropagation.PROPAGATION_HOST_TO_CONTAINER) ? "rslave" : "rprivate";
}

function ociMapping({ containerId, hostId, length }: IDMapping): OciIdMapping {
  return { containerID: containerId, hostID: hostId, size: length };
}

function bind(destination: string, source: string, mode: "ro" | "rw"): OciMount {
  return { destination, type: "bind", source, options: ["rbind", "rprivate", mode] };
}

function depth(path: string): number {
  return path.split("/").filter((part) => part !== "").length;
}
