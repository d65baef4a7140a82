import { CriError } from "../../base/error.ts";
import type { Mount } from "../../cri/api.generated.ts";

/** What the kubelet mounts into every container on its own account, by the end of the path in the container. */
const KUBELET_EXTRAS = [
  /^\/etc\/hosts$/,
  /^\/dev\/termination-log$/,
  /^\/var\/run\/secrets\/kubernetes\.io\/serviceaccount$/,
];

/**
 * Checks a container's mounts. What the kubelet adds to every container is left out of the job; a volume
 * that the pod asked for must not be missed silently, so it is refused by name.
 * @throws CriError UNIMPLEMENTED.
 */
export function checkMounts(mounts: readonly Mount[]): void {
  for (const mount of mounts) {
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
