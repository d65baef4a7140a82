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

/** As containerd has it, for people and programs that look for it. */
const NETWORK_NOT_READY_REASON = "NetworkPluginNotReady";

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
 * own, because a kubelet that sees RuntimeReady=false stops running every pod of the node. NetworkReady is false while
 * pods cannot be attached to their network; the kubelet then starts none but those on the node's own.
 */
export async function runtimeStatus(runtime: Runtime, verbose: boolean): Promise<StatusResponse> {
  const network = await runtime.networks?.readiness() ?? { ready: true, message: "" };
  const conditions = [
    { type: "RuntimeReady", status: true, reason: "", message: "" },
    {
      type: "NetworkReady",
      status: network.ready,
      reason: network.ready ? "" : NETWORK_NOT_READY_REASON,
      message: network.ready ? "" : `Network plugin returns error: ${network.message}`,
    },
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
