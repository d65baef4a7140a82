import { findById } from "./lookup.ts";
import type { Runtime } from "./runtime.ts";
import { removeContainer } from "./container_remove.ts";
import { stopPodSandbox } from "./sandbox_stop.ts";

/**
 * RemovePodSandbox: api.proto: containers that are left are forcibly stopped and removed; idempotent, no
 * error when the sandbox is gone.
 */
export async function removePodSandbox(
  runtime: Runtime,
  sandboxId: string,
  signal: AbortSignal,
): Promise<void> {
  const sandbox = findById(runtime.store.sandboxes, "pod sandbox", sandboxId);
  if (sandbox === undefined) return;
  await stopPodSandbox(runtime, sandbox.id, signal);
  for (const container of runtime.store.containers.all()) {
    if (container.sandboxId === sandbox.id) await removeContainer(runtime, container.id, signal);
  }
  await runtime.adapter.removeSandbox(sandbox.id);
  runtime.store.sandboxes.delete(sandbox.id);
}
