import { CriError } from "../../base/error.ts";
import {
  type ContainerConfig,
  type Mount,
  MountPropagation,
  type PodSandboxConfig,
} from "../../cri/api.generated.ts";
import { placeInContainer } from "../container_path.ts";
import { VOLUME_ANNOTATION } from "./job_options.ts";
import { checkTermination, terminationMount } from "./termination.ts";
import { VOLUME_PATH, volumeClaim, volumeMount, type VolumePart, volumePart } from "./volume.ts";

/** What a mount's files are, and so what becomes of them on the cluster. */
export type MountSource =
  /** The volume whose files the cluster has, in the directory of this name; or a part of it. */
  | { kind: "volume"; claim: string; part?: VolumePart & { ofAnyVolume: boolean } }
  /** The file that the termination message is copied from. */
  | { kind: "termination" }
  /** The kubelet's file of host names. */
  | { kind: "hosts"; hostPath: string }
  /** Files of the node that are copied to the cluster, anew when the kubelet writes them anew. */
  | { kind: "copied"; hostPath: string }
  /** A directory of the pod's, which its containers share (emptyDir); the node's stays empty. */
  | { kind: "shared"; volume: string }
  /** A part (subPath) of a copied or shared volume; the kubelet keeps it at a path that does not tell which. */
  | ({ kind: "part" } & VolumePart);

/** A mount of a container. */
export type PlannedMount = MountSource & {
  /** Absolute in the container, without `.`, `..` and empty parts. */
  destination: string;
  readonly: boolean;
};

/** Volumes that the kubelet writes for the pod (pkg/volume of Kubernetes), as its paths name them. */
export const COPIED_PLUGINS: readonly string[] = [
  "kubernetes.io~configmap",
  "kubernetes.io~secret",
  "kubernetes.io~projected",
  "kubernetes.io~downward-api",
];
export const SHARED_PLUGIN = "kubernetes.io~empty-dir";

/** A volume's name in the pod: a DNS label (api/types.go, Volume). */
const VOLUME_NAME = /^[a-z0-9A-Z][\w.-]{0,252}$/;

/** What the runtime mounts itself, so that nothing else can be there, and what is ours. */
const OWN_PLACES = ["/dev", "/proc", "/sys", "/.multicri"];
/** Where a volume can be nevertheless: programs that need much shared memory mount one there. */
const SHARED_MEMORY = "/dev/shm";

/**
 * What is to become of a container's mounts, those of shorter paths first, because they would hide the others. A mount
 * that cannot be on the cluster must not be missed silently, so it is refused by name. Nothing is read.
 *
 * A termination message below /dev takes no mount (see `withTermination`).
 * @throws CriError INVALID_ARGUMENT.
 */
export function planMounts(
  config: Pick<ContainerConfig, "annotations" | "mounts">,
  sandbox: Pick<PodSandboxConfig, "annotations" | "metadata">,
  kubeletRootDir: string,
): PlannedMount[] {
  const termination = terminationMount(config);
  const volume = volumeMount(config);
  const planned: PlannedMount[] = [];
  for (const mount of config.mounts) {
    const { readonly } = mount;
    if (mount === termination) {
      checkTermination(mount, kubeletRootDir);
      if (isBelow(mount.containerPath, "/dev")) continue;
    } else {
      refuseManner(mount);
    }
    const place = { destination: destinationOf(mount), readonly };
    if (mount === termination) planned.push({ ...place, kind: "termination" });
    else if (mount === volume) {
      planned.push({
        ...place,
        kind: "volume",
        claim: volumeClaim(mount, sandbox, kubeletRootDir),
        ...partOf(mount, sandbox, kubeletRootDir),
      });
    } else if (place.destination === VOLUME_PATH) {
      throw refusal(mount, `something else is mounted at ${VOLUME_PATH}`, "choose another path");
    } else planned.push({ ...place, ...sourceOf(mount, sandbox, kubeletRootDir) });
  }
  const depth = ({ destination }: PlannedMount) => destination.split("/").length;
  return planned.toSorted((a, b) => depth(a) - depth(b));
}

/** Whether `path` is `directory` or lies below it; both absolute and without `..`. */
export function isBelow(path: string, directory: string): boolean {
  return path === directory || path.startsWith(`${directory}/`);
}

function destinationOf(mount: Mount): string {
  const destination = placeInContainer(mount);
  // deno-lint-ignore no-control-regex
  if (/[\x00-\x1f\x7f]/.test(destination) || mount.containerPath === "") {
    throw refusal(
      mount,
      "a path in the container must be given and hold no control characters",
      "change it",
    );
  }
  const isOwn = destination === "/" || OWN_PLACES.some((own) => isBelow(destination, own));
  if (isOwn && destination !== SHARED_MEMORY) {
    throw refusal(
      mount,
      `nothing can be mounted at / and below ${OWN_PLACES.join(", ")}`,
      "choose another path",
    );
  }
  return destination;
}

/** What the kubelet does for a mount on its own node and no job can have. */
function refuseManner(mount: Mount): void {
  const asked = [
    mount.image === undefined ? "" : "an image as a volume",
    mount.propagation === MountPropagation.PROPAGATION_PRIVATE ? "" : "mountPropagation",
    mount.recursiveReadOnly ? "recursiveReadOnly" : "",
    mount.uidMappings.length + mount.gidMappings.length === 0 ? "" : "mapped users (hostUsers)",
  ].filter((what) => what !== "");
  if (asked.length === 0) return;
  throw refusal(mount, `a Slurm job cannot have ${asked.join(", ")}`, "leave that out");
}

function sourceOf(
  mount: Mount,
  { metadata }: Pick<PodSandboxConfig, "metadata">,
  kubeletRootDir: string,
): MountSource {
  const { hostPath } = mount;
  const pods = `${kubeletRootDir}/pods/`;
  const [uid, ...parts] = hostPath.startsWith(pods) ? hostPath.slice(pods.length).split("/") : [];
  if (uid === undefined || parts.some((part) => part === "" || part === "." || part === "..")) {
    throw refusal(
      mount,
      `${
        JSON.stringify(hostPath)
      } is a path of the Kubernetes node, and the job runs on another machine`,
      "leave the mount out",
    );
  }
  if (uid !== metadata?.uid) {
    throw refusal(mount, `${JSON.stringify(hostPath)} belongs to another pod`, "leave it out");
  }
  const [folder, first = "", second = "", ...rest] = parts;
  if (folder === "etc-hosts" && first === "") return { kind: "hosts", hostPath };
  const part = volumePart(hostPath, kubeletRootDir);
  if (part !== undefined) return { kind: "part", ...part };
  if (folder === "volumes" && VOLUME_NAME.test(second) && rest.length === 0) {
    if (COPIED_PLUGINS.includes(first)) return { kind: "copied", hostPath };
    if (first === SHARED_PLUGIN) return { kind: "shared", volume: second };
  }
  throw refusal(
    mount,
    `${JSON.stringify(hostPath)} is a volume whose files only the node has`,
    `mount a persistent volume whose files the cluster has as well at ${VOLUME_PATH}, or leave it out`,
  );
}

/** Which part of the volume at /multicri is mounted, if not all of it. */
function partOf(
  mount: Mount,
  { annotations, metadata }: Pick<PodSandboxConfig, "annotations" | "metadata">,
  kubeletRootDir: string,
): Pick<PlannedMount & { kind: "volume" }, "part"> {
  const part = volumePart(mount.hostPath, kubeletRootDir);
  if (part === undefined) return {};
  // Where the pod names the cluster's directory, the volume that it mounts for that may be of any kind.
  const ofAnyVolume = Object.hasOwn(annotations, VOLUME_ANNOTATION);
  if (part.podDirectory === `${kubeletRootDir}/pods/${metadata?.uid}`) {
    return { part: { ...part, ofAnyVolume } };
  }
  throw refusal(mount, `${JSON.stringify(mount.hostPath)} belongs to another pod`, "leave it out");
}

/** @returns the error for a mount that cannot be. */
export function refusal(
  { containerPath }: Pick<Mount, "containerPath">,
  why: string,
  todo: string,
): CriError {
  return new CriError(
    "INVALID_ARGUMENT",
    `Cannot mount ${JSON.stringify(containerPath)} into the container: ${why}; ${todo}.`,
  );
}
