import type { Executor } from "../../executors/executor.ts";
import type { AdapterFeatures } from "../adapter.ts";
import { fieldsOf, textsOf } from "./bundle/json_fields.ts";
import { isAtLeast } from "./kernel.ts";

const TIMEOUT_MS = 60_000;
/** Since then mount_setattr(2) can make mounts read-only with all below them, and shift their owners. */
const MOUNT_SETATTR = "5.12";

/**
 * What this node's crun and kernel can do of what a kubelet asks for only where it is told so. A crun that cannot tell,
 * because it is older than `crun features`, is taken for one that cannot, as other runtimes do.
 */
export async function nodeFeatures(executor: Executor, kernel: string): Promise<AdapterFeatures> {
  const { code, stdout } = await executor.run(["crun", "features"], { timeoutMs: TIMEOUT_MS });
  return featuresOf(code === 0 ? new TextDecoder().decode(stdout) : "{}", kernel);
}

/** @param text The features of an OCI runtime (runtime-spec, features.md). */
export function featuresOf(text: string, kernel: string): AdapterFeatures {
  const { mountOptions, linux = {} } = fieldsOf(JSON.parse(text));
  const { namespaces, mountExtensions = {} } = fieldsOf(linux);
  const { idmap = {} } = fieldsOf(mountExtensions);
  const mayChangeMounts = isAtLeast(kernel, MOUNT_SETATTR);
  return {
    recursiveReadOnlyMounts: mayChangeMounts && textsOf(mountOptions).includes("rro"),
    supplementalGroupsPolicy: true,
    userNamespaces: mayChangeMounts && textsOf(namespaces).includes("user") &&
      fieldsOf(idmap)["enabled"] === true,
  };
}
