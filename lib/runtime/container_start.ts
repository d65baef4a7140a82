import { CriError } from "../base/error.ts";
import { requireById } from "./lookup.ts";
import type { Runtime } from "./runtime.ts";

/**
 * StartContainer.
 * @throws CriError FAILED_PRECONDITION when it was started before, and whatever keeps it from starting.
 */
export async function startContainer(
  runtime: Runtime,
  containerId: string,
  signal: AbortSignal,
): Promise<void> {
  const { id } = requireById(runtime.store.containers, "container", containerId);
  await runtime.locks.runExclusive(id, async () => {
    const container = requireById(runtime.store.containers, "container", id);
    if (container.state.phase !== "created") {
      throw new CriError(
        "FAILED_PRECONDITION",
        `Cannot start the container ${id}: it must be created, but it is ${container.state.phase}.`,
      );
    }
    if (runtime.store.sandboxes.get(container.sandboxId)?.state !== "ready") {
      throw new CriError(
        "FAILED_PRECONDITION",
        `Cannot start the container ${id}: its sandbox ${container.sandboxId} is not ready.`,
      );
    }
    await runtime.adapter.startContainer(id, signal);
  });
}
