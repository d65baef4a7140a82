import { CriError } from "../../base/error.ts";
import type { ContainerConfig, Mount } from "../../cri/api.generated.ts";

/** Where the volume is in the container: `mountPath: multicri` of the seed's manifests. */
export const VOLUME_PATH = "/multicri";

/** Plugins whose volumes live and die with the pod on its node, so that no cluster has them. */
const NODE_PLUGINS =
  /^kubernetes\.io~(empty-dir|configmap|secret|projected|downward-api|git-repo)$/;

/** A directory's name; what begins otherwise is ours (`.images`). */
const CLAIM = /^[A-Za-z0-9][\w.-]{0,252}$/;

/** The container's volume on the cluster, if it mounts one. */
export function volumeMount(config: Pick<ContainerConfig, "mounts">): Mount | undefined {
  return config.mounts.find(({ containerPath }) =>
    containerPath === VOLUME_PATH || `/${containerPath}` === VOLUME_PATH
  );
}

/**
 * The name of the volume's directory on the cluster: of the persistent volume, as the kubelet's path on the node has it
 * (`pods/<uid>/volumes/<plugin>/<name>`, of CSI volumes with `/mount` behind).
 * @throws CriError INVALID_ARGUMENT for a volume that only the node has.
 */
export function volumeClaim(mount: Mount, kubeletRootDir: string): string {
  const pods = `${kubeletRootDir}/pods/`;
  const parts = mount.hostPath.startsWith(pods) ? mount.hostPath.slice(pods.length).split("/") : [];
  const [, volumes, plugin = "", claim = "", csi, ...rest] = parts;
  const isCsi = plugin === "kubernetes.io~csi";
  const fits = volumes === "volumes" && rest.length === 0 && !NODE_PLUGINS.test(plugin) &&
    csi === (isCsi ? "mount" : undefined) && CLAIM.test(claim);
  if (fits) return claim;
  throw new CriError(
    "INVALID_ARGUMENT",
    `Cannot mount ${
      JSON.stringify(mount.hostPath)
    } at ${VOLUME_PATH}: it must be a persistent volume whose files ` +
      "the cluster has as well (without subPath), of NFS for example.",
  );
}
