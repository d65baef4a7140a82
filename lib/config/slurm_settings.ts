import { isAbsolute } from "@std/path";
import { badValue } from "./usage_error.ts";

/** The `CRI_SLURM_*` environment variables. */
export interface SlurmSettings {
  /** Working directory on the cluster, relative to $HOME. */
  mountPath: string;
  /** Directory of images on the cluster: absolute, or relative to $HOME; undefined: inside `mountPath`. */
  imageRemoteMount: string | undefined;
  /** The site's own directory of images on the cluster, absolute, which is only read. */
  siteImages?: string | undefined;
  /** Whether the cluster's own runtime pulls images that need no credentials. */
  buildInCluster?: boolean;
  /** Whether what the cluster's runtime makes is made in a job, and not on the login host. */
  buildInJob?: boolean;
  /** Whether jobs are followed by steps on their nodes, and not by their files as the login host sees them. */
  followOnNode?: boolean;
}

/**
 * Reads them.
 * @throws UsageError with a sentence about a value that cannot be used.
 */
export function slurmSettings(env: (name: string) => string | undefined): SlurmSettings {
  const build = env("CRI_SLURM_BUILD_IN_CLUSTER") || "false";
  if (!/^(true|false|1|0|job)$/i.test(build)) {
    throw badValue("CRI_SLURM_BUILD_IN_CLUSTER", build, "true or false, or job");
  }
  const follow = env("CRI_SLURM_FOLLOW") || "files";
  if (!/^(files|node)$/i.test(follow)) {
    throw badValue("CRI_SLURM_FOLLOW", follow, "files or node");
  }
  const mountPath = env("CRI_SLURM_MOUNT_PATH") || "multi-cri";
  const imageMount = env("CRI_SLURM_IMAGE_REMOTE_MOUNT") || undefined;
  const safe = (path: string) =>
    // deno-lint-ignore no-control-regex
    !/[\x00-\x1f\x7f:,\\]/.test(path) && path.split("/").every((part) => part !== "..");
  if (!safe(mountPath) || isAbsolute(mountPath)) {
    throw badValue(
      "CRI_SLURM_MOUNT_PATH",
      mountPath,
      "a path relative to $HOME without '..', ':', ',' and '\\'",
    );
  }
  if (imageMount !== undefined && !safe(imageMount)) {
    throw badValue(
      "CRI_SLURM_IMAGE_REMOTE_MOUNT",
      imageMount,
      "a path without '..', ':', ',' and '\\'",
    );
  }
  const siteImages = env("CRI_SLURM_SITE_IMAGES") || undefined;
  if (siteImages !== undefined && !(safe(siteImages) && isAbsolute(siteImages))) {
    throw badValue(
      "CRI_SLURM_SITE_IMAGES",
      siteImages,
      "an absolute path without '..', ':', ',' and '\\'",
    );
  }
  return {
    mountPath: mountPath.replace(/\/+$/, ""),
    imageRemoteMount: imageMount,
    siteImages,
    buildInCluster: /^(true|1|job)$/i.test(build),
    buildInJob: /^job$/i.test(build),
    followOnNode: /^node$/i.test(follow),
  };
}
