import { findById } from "./lookup.ts";
import type { Runtime } from "./runtime.ts";
import { stopContainerRecord } from "./container_stop.ts";

/**
 * StopPodSandbox: ends what still runs in the pod and takes it out of service. api.proto: idempotent, no
 * error when the sandbox is stopped or gone, and forcible: containers get no grace, because the kubelet
 * has given it to them before.
 * @throws CriError UNAVAILABLE when a job's end cannot be seen; the sandbox then stays ready. As `PodNetworks.detach`.
 */
export async function stopPodSandbox(
  runtime: Runtime,
  sandboxId: string,
  signal: AbortSignal,
): Promise<void> {
  const sandbox = findById(runtime.store.sandboxes, "pod sandbox", sandboxId);
  if (sandbox === undefined) return;
  await runtime.locks.runExclusive(sandbox.id, async () => {
    for (;;) {
      const alive = runtime.store.containers.all().filter(({ sandboxId, state }) =>
        sandboxId === sandbox.id && (state.phase === "starting" || state.phase === "running")
      );
      if (alive.length === 0) break;
      const outcomes = await Promise.allSettled(
        alive.map((container) => stopContainerRecord(runtime, container.id, 0, signal)),
      );
      for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
    }
    // Without an await since the last look: a start that comes now finds the sandbox not ready.
    runtime.store.sandboxes.settle(
      sandbox.id,
      (record) => record.state === "notready" ? record : { ...record, state: "notready" },
    );
    await runtime.adapter.pods.stop(sandbox.id);
    await runtime.networks?.detach(sandbox.id);
  });
}
