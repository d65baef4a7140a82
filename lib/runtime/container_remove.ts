import { findById } from "./lookup.ts";
import type { Runtime } from "./runtime.ts";
import { stopContainerRecord } from "./container_stop.ts";

/**
 * RemoveContainer. api.proto: a running container is forcibly stopped first; idempotent, no error when it
 * is gone. The record goes last, so that a crash in between is finished by the next call.
 */
export async function removeContainer(
  runtime: Runtime,
  containerId: string,
  signal: AbortSignal,
): Promise<void> {
  const found = findById(runtime.store.containers, "container", containerId);
  if (found === undefined) return;
  // Twice: first without the lock, to end a start that holds it; then for one that began meanwhile.
  await stopContainerRecord(runtime, found.id, 0, signal);
  await runtime.locks.runExclusive(found.id, async () => {
    await stopContainerRecord(runtime, found.id, 0, signal);
    const container = runtime.store.containers.get(found.id);
    if (container === undefined) return;
    await runtime.adapter.removeContainer(container, signal);
    runtime.store.logPositions.delete(container.id);
    runtime.store.containers.delete(container.id);
    runtime.images.collectUnused();
  });
}
