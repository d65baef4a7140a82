import {
  type LinuxContainerSecurityContext,
  type Mount,
  MountPropagation,
} from "../../../cri/api.generated.ts";
import { askedMount, type FoundMount } from "./asked_mount.ts";
import type { OciMount } from "./oci_spec.ts";

/** Where the pod's own files lie that its containers share. */
export interface PodFiles {
  hosts: string;
  hostname: string;
  resolvConf: string;
  /** Absent where the node's own is used. */
  shm?: string;
  /** What the kernel shows in /sys, where a container cannot mount that for itself. */
  sys?: string;
}

/** For what holds no programs and no devices. */
const SAFE: readonly string[] = ["nosuid", "noexec", "nodev"];

/** All mounts of a container, in the order in which they are made. */
export function mountsOf(
  context: LinuxContainerSecurityContext | undefined,
  files: PodFiles,
  found: readonly FoundMount[],
): OciMount[] {
  const asked = found.map(askedMount);
  const taken = new Set(asked.map(({ destination }) => destination));
  const etcMode = context?.readonlyRootfs ? "ro" : "rw";
  const ofPod = [
    bind("/etc/hosts", files.hosts, etcMode),
    bind("/etc/hostname", files.hostname, etcMode),
    bind("/etc/resolv.conf", files.resolvConf, etcMode),
    bind("/dev/shm", files.shm ?? "/dev/shm", "rw", SAFE),
  ];
  const own = [...kernelMounts(context, files.sys), ...ofPod]
    .filter(({ destination }) => !taken.has(destination));
  // What lies deeper is mounted later, whatever the order of the request.
  const depth = ({ destination }: OciMount) => destination.split("/").length;
  return [...own, ...asked.toSorted((a, b) => depth(a) - depth(b))];
}

/** What the kernel shows of itself; only a privileged container may change it. */
function kernelMounts(
  context: LinuxContainerSecurityContext | undefined,
  sys: string | undefined,
): OciMount[] {
  const mode = context?.privileged ? "rw" : "ro";
  return [
    { destination: "/proc", type: "proc", source: "proc", options: [...SAFE] },
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
    // Of the IPC namespace that it is in, which may be the node's.
    { destination: "/dev/mqueue", type: "mqueue", source: "mqueue", options: [...SAFE] },
    sys === undefined
      ? { destination: "/sys", type: "sysfs", source: "sysfs", options: [...SAFE, mode] }
      : bind("/sys", sys, mode, SAFE),
    {
      destination: "/sys/fs/cgroup",
      type: "cgroup",
      source: "cgroup",
      options: [...SAFE, "relatime", mode],
    },
  ];
}

/** The propagation that the container's own root needs, so that mounts pass where one is to let them. */
export function rootPropagation(mounts: readonly Mount[]): string {
  const asked = new Set(mounts.map(({ propagation }) => propagation));
  if (asked.has(MountPropagation.PROPAGATION_BIDIRECTIONAL)) return "rshared";
  return asked.has(MountPropagation.PROPAGATION_HOST_TO_CONTAINER) ? "rslave" : "rprivate";
}

function bind(
  destination: string,
  source: string,
  mode: "ro" | "rw",
  more: readonly string[] = [],
): OciMount {
  return { destination, type: "bind", source, options: ["rbind", "rprivate", ...more, mode] };
}
