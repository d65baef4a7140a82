import {
  CgroupDriver,
  RuntimeConfigResponse,
  StatusResponse,
  VersionResponse,
} from "../cri/api.generated.ts";
import { OWN_NAME } from "../config/remotes.ts";
import type { Runtime } from "./runtime.ts";

/** The kubelet accepts only this, the version of the kubelet's own runtime API (VersionResponse). */
const KUBELET_RUNTIME_API_VERSION = "0.1.0";

/** Version of multicri; a SemVer, as api.proto asks. */
export const MULTICRI_VERSION = "0.1.0";

/** Version. */
export function version(): VersionResponse {
  return {
    version: KUBELET_RUNTIME_API_VERSION,
    runtimeName: "multicri",
    runtimeVersion: MULTICRI_VERSION,
    runtimeApiVersion: "v1",
  };
}

/**
 * Status. RuntimeReady is about this process alone: a cluster that cannot be reached is a condition of its
 * own, because a kubelet that sees RuntimeReady=false stops running every pod of the node.
 */
export function runtimeStatus(runtime: Runtime, verbose: boolean): StatusResponse {
  const conditions = [
    { type: "RuntimeReady", status: true, reason: "", message: "" },
    { type: "NetworkReady", status: true, reason: "", message: "" },
    ...runtime.adapter.conditions(),
  ];
  const { supplementalGroupsPolicy, ...features } = runtime.adapter.features;
  return StatusResponse.fromPartial({
    status: { conditions },
    runtimeHandlers: [{ name: "", features }, { name: OWN_NAME, features }],
    features: { supplementalGroupsPolicy },
    info: verbose ? { config: JSON.stringify(runtime.config, null, 2) } : {},
  });
}

/** RuntimeConfig: the kubelet must use the cgroup driver of the node's init system. */
export function runtimeConfig(runtime: Runtime): RuntimeConfigResponse {
  return RuntimeConfigResponse.fromPartial({
    linux: { cgroupDriver: runtime.systemdNode ? CgroupDriver.SYSTEMD : CgroupDriver.CGROUPFS },
  });
}
