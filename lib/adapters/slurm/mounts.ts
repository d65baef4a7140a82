import { CriError } from "../../base/error.ts";
import type { ContainerConfig } from "../../cri/api.generated.ts";
import { checkTermination, terminationMount } from "./termination.ts";

/** What the kubelet mounts into every container on its own account, by its path in the container. */
const KUBELET_EXTRAS = [
  /^\/etc\/hosts$/,
  /^\/var\/run\/secrets\/kubernetes\.io\/serviceaccount$/,
];

/**
 * Checks a container's mounts. The file of the termination message takes part in the job; what else the kubelet
 * adds to every container is left out; a volume that the pod asked for must not be missed silently, so it is
 * refused by name.
 * @throws CriError UNIMPLEMENTED, INVALID_ARGUMENT.
 */
export function checkMounts(
  config: Pick<ContainerConfig, "annotations" | "mounts">,
  kubeletRootDir: string,
): void {
  const termination = terminationMount(config);
  if (termination !== undefined) checkTermination(termination, kubeletRootDir);
  for (const mount of config.mounts) {
    if (mount === termination) continue;
    if (KUBELET_EXTRAS.some((extra) => extra.test(mount.containerPath))) continue;
    throw new CriError(
      "UNIMPLEMENTED",
      `Cannot mount ${
        JSON.stringify(mount.containerPath)
      } into the container: volumes are not available ` +
        "in this version of multicri; leave the mount out.",
    );
  }
}
