import { CriError } from "../base/error.ts";
import { findById } from "./lookup.ts";
import type { Runtime } from "./runtime.ts";

/** A grace period longer than this is cut: timers count milliseconds with 31 bits, which are 24.8 days. */
const MAX_GRACE_SECONDS = 24 * 24 * 3600;

/**
 * StopContainer with its timeout in seconds. api.proto: idempotent, no error when it is stopped or gone.
 * @throws CriError UNAVAILABLE while the end of the job cannot be seen; the kubelet calls again.
 */
export async function stopContainer(
  runtime: Runtime,
  containerId: string,
  timeoutSeconds: bigint,
  signal: AbortSignal,
): Promise<void> {
  const container = findById(runtime.store.containers, "container", containerId);
  if (container === undefined) return;
  if (timeoutSeconds < 0n) {
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot stop the container ${container.id}: its timeout must be 0 or more seconds, not ${timeoutSeconds}.`,
    );
  }
  const seconds = Math.min(Number(timeoutSeconds), MAX_GRACE_SECONDS);
  await stopContainerRecord(runtime, container.id, seconds * 1000, signal);
}

/** Stops by exact id; the adapter takes a start that is still going on into account. */
export async function stopContainerRecord(
  runtime: Runtime,
  id: string,
  graceMs: number,
  signal: AbortSignal,
): Promise<void> {
  const container = runtime.store.containers.get(id);
  if (container === undefined || container.state.phase === "exited") return;
  await runtime.adapter.stopContainer(id, graceMs, signal);
}
