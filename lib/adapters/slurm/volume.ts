import { CriError } from "../../base/error.ts";
import type { ContainerConfig, Mount, PodSandboxConfig } from "../../cri/api.generated.ts";
import { placeInContainer } from "../container_path.ts";
import { unusable, VOLUME_ANNOTATION } from "./job_options.ts";

/** Where the volume is in the container: `mountPath: multicri` of the seed's manifests. */
export const VOLUME_PATH = "/multicri";

/** Plugins whose volumes live and die with the pod on its node, so that no cluster has them. */
export const NODE_PLUGINS =
  /^kubernetes\.io~(empty-dir|configmap|secret|projected|downward-api|git-repo)$/;

/** Its volumes lie one directory deeper, in `mount`. */
export const CSI_PLUGIN = "kubernetes.io~csi";

/** The name of a persistent volume; what begins otherwise is ours (`.images`). */
const CLAIM = /^[A-Za-z0-9][\w.-]{0,252}$/;

/** What a pod may call a directory of the cluster: one name, which needs no more than quoting. */
// deno-lint-ignore no-control-regex
const DIRECTORY_NAME = /^[^./\x00-\x1f\x7f][^/\x00-\x1f\x7f]*$/;
/** File systems take no more (NAME_MAX). */
const MAX_NAME_BYTES = 255;

/**
 * The names of sandboxes, whose directories lie beside the volumes. They hold scripts that run outside of containers,
 * and the variables and Secrets of other pods, so no pod may mount one; in any case, since file systems may ignore it.
 */
const SANDBOX_NAME = /^[0-9a-f]{64}$/i;

/** The container's volume on the cluster, if it mounts one. */
export function volumeMount(config: Pick<ContainerConfig, "mounts">): Mount | undefined {
  return config.mounts.find((mount) => placeInContainer(mount) === VOLUME_PATH);
}

/** A part (subPath) of a volume, which the kubelet keeps at a path that does not tell which. */
export interface VolumePart {
  /** The volume's name, as that path has it: of a persistent volume its own. */
  volume: string;
  hostPath: string;
  /** The kubelet's directory of the pod. */
  podDirectory: string;
}

/**
 * The part of a volume that a kubelet's path stands for: `pods/<uid>/volume-subpaths/<volume>/<container>/<number>`
 * (pkg/volume/util/subpath); undefined for any other path.
 */
export function volumePart(hostPath: string, kubeletRootDir: string): VolumePart | undefined {
  const pods = `${kubeletRootDir}/pods/`;
  if (!hostPath.startsWith(pods)) return undefined;
  const [uid = "", folder, volume = "", ...rest] = hostPath.slice(pods.length).split("/");
  const isPart = folder === "volume-subpaths" && CLAIM.test(volume) && CLAIM.test(uid) &&
    rest.length === 2 && rest.every((name) => CLAIM.test(name));
  return isPart ? { volume, hostPath, podDirectory: `${pods}${uid}` } : undefined;
}

/**
 * The name of the volume's directory on the cluster: what the pod's annotation says, else that of the persistent
 * volume, as the kubelet's path on the node has it (`pods/<uid>/volumes/<plugin>/<name>`, of CSI volumes with `/mount`
 * behind; of a part of one see `volumePart`).
 * @throws CriError INVALID_ARGUMENT for a volume that only the node has, or a name that is none.
 */
export function volumeClaim(
  mount: Mount,
  sandbox: Pick<PodSandboxConfig, "annotations">,
  kubeletRootDir: string,
): string {
  const annotated = Object.hasOwn(sandbox.annotations, VOLUME_ANNOTATION)
    ? sandbox.annotations[VOLUME_ANNOTATION] ?? ""
    : undefined;
  if (annotated !== undefined) {
    const isName = DIRECTORY_NAME.test(annotated) &&
      new TextEncoder().encode(annotated).length <= MAX_NAME_BYTES;
    if (isName && !SANDBOX_NAME.test(annotated)) return annotated;
    const expected =
      `the name of a directory, of ${MAX_NAME_BYTES} bytes at most, without slashes, not beginning with a dot, ` +
      "and not 64 hexadecimal digits, as the directories of pods";
    throw unusable(`the annotation ${VOLUME_ANNOTATION}`, expected, annotated);
  }
  const part = volumePart(mount.hostPath, kubeletRootDir)?.volume;
  if (part !== undefined && !SANDBOX_NAME.test(part)) return part;
  const pods = `${kubeletRootDir}/pods/`;
  const parts = mount.hostPath.startsWith(pods) ? mount.hostPath.slice(pods.length).split("/") : [];
  const [, volumes, plugin = "", claim = "", csi, ...rest] = parts;
  const isCsi = plugin === CSI_PLUGIN;
  const fits = volumes === "volumes" && rest.length === 0 && !NODE_PLUGINS.test(plugin) &&
    csi === (isCsi ? "mount" : undefined) && CLAIM.test(claim);
  if (fits && !SANDBOX_NAME.test(claim)) return claim;
  throw new CriError(
    "INVALID_ARGUMENT",
    `Cannot mount ${
      JSON.stringify(mount.hostPath)
    } at ${VOLUME_PATH}: it must be a persistent volume whose files ` +
      `the cluster has as well, of NFS for example, and whose name is not 64 hexadecimal digits; or name the cluster's directory in the pod's ` +
      `annotation ${VOLUME_ANNOTATION}.`,
  );
}
