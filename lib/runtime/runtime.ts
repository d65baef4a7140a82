import type { Adapter } from "../adapters/adapter.ts";
import type { PodTraffic } from "../adapters/steps/pod_traffic.ts";
import type { Clock } from "../base/clock.ts";
import { KeyedMutex } from "../base/keyed_mutex.ts";
import type { Config } from "../config/flags.ts";
import type { PodNetworks } from "../network/pod_networks.ts";
import type { ImageService } from "../images/image_service.ts";
import type { StreamingServer } from "../streaming/server.ts";
import type { Store } from "../store/store.ts";

/** What every verb of our own CRI works with. */
export interface Runtime {
  config: Config;
  store: Store;
  adapter: Adapter;
  images: ImageService;
  /** Where clients find what Exec, Attach and PortForward prepare. */
  streams: Pick<StreamingServer, "execUrl" | "attachUrl" | "portForwardUrl">;
  clock: Clock;
  /** The pods' own networks; undefined without --enable-pod-network. */
  networks: PodNetworks | undefined;
  /** What goes through them. */
  traffic: Pick<PodTraffic, "measure" | "of"> | undefined;
  /** The address reported for pods without a network of their own. */
  nodeAddress: string;
  /** Whether systemd is this node's init system, which decides the cgroup driver. */
  systemdNode: boolean;
  /** Serialises the verbs of one container, and of one sandbox. */
  locks: KeyedMutex;
}

/** Milliseconds since the epoch as the CRI's nanoseconds; undefined becomes 0, "not yet". */
export function toNanoseconds(ms: number | undefined): bigint {
  return ms === undefined ? 0n : BigInt(Math.round(ms * 1000)) * 1000n;
}

/** A value for the `info` of a verbose status; 64-bit integers become strings, as in protobuf's JSON. */
export function toInfo(value: unknown): string {
  return JSON.stringify(value, (_, part) => typeof part === "bigint" ? String(part) : part, 2);
}

/** A new id of a sandbox or container: 64 hex digits, as the kubelet and crictl expect of any runtime. */
export function newId(): string {
  return crypto.getRandomValues(new Uint8Array(32)).toHex();
}
