import { CriError } from "../../base/error.ts";
import type { ContainerConfig } from "../../cri/api.generated.ts";
import { checkTermination, terminationMount } from "./termination.ts";
import { volumeClaim, volumeMount } from "./volume.ts";

/** What the kubelet mounts into every container on its own account, by its path in the container. */
const KUBELET_EXTRAS = [
  /^\/etc\/hosts$/,
  /^\/var\/run\/secrets\/kubernetes\.io\/serviceaccount$/,
];

/**
 * Checks a container's mounts. The file of the termination message and the volume that lies on the cluster take part
 * in the job; what else the kubelet
 * adds to every container is left out; a mount that the pod asked for must not be missed silently, so it is
 * refused by name: a volume of the kubelet's, and a path of the node, which the job's machine does not have.
 * @throws CriError UNIMPLEMENTED, INVALID_ARGUMENT.
 */
export function checkMounts(
  config: Pick<ContainerConfig, "annotations" | "mounts">,
  kubeletRootDir: string,
): void {
  const termination = terminationMount(config);
  if (termination !== undefined) checkTermination(termination, kubeletRootDir);
  const volume = volumeMount(config);
  if (volume !== undefined) volumeClaim(volume, kubeletRootDir);
  const others = config.mounts.filter((one) => one !== termination && one !== volume);
  for (const { containerPath, hostPath } of others) {
    if (KUBELET_EXTRAS.some((extra) => extra.test(containerPath))) continue;
    const place = JSON.stringify(containerPath);
    // A volume that is an image has no path.
    const isBelowRoot = hostPath.startsWith(`${kubeletRootDir}/`) && !hostPath.includes("/../");
    if (isBelowRoot || hostPath === "") {
      throw new CriError(
        "UNIMPLEMENTED",
        `Cannot mount ${place} into the container: volumes are not available in this version of ` +
          "multicri, apart from one at /multicri; leave the mount out.",
      );
    }
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot mount ${
        JSON.stringify(hostPath)
      } at ${place} into the container: it is a path of the ` +
        "Kubernetes node, and the job runs on another machine; leave the mount out.",
    );
  }
}
