import { messageOf } from "../../base/error.ts";
import { markExited } from "../../store/container_state.ts";
import type { ActiveContainers } from "./active.ts";
import { LOST_EXIT_CODE } from "./queue.ts";
import { readSecrets } from "./secrets.ts";
import { changeState, withWorkload, workloadOf } from "./workload.ts";

/**
 * Gives a container up whose cluster or login is gone for good, as only an administrator can know: it exits with 255,
 * `Abandoned`. Its job and files, should they still be there, are left to the administrator.
 */
export async function abandonContainer(containers: ActiveContainers, id: string): Promise<void> {
  const { store, clock, log } = containers;
  const container = store.containers.update(
    id,
    withWorkload((workload) => ({ ...workload, abandoned: true })),
  );
  const active = await containers.current(id);
  if (active !== undefined) {
    const job = container === undefined ? undefined : workloadOf(container).jobId;
    await containers.note(active, `an administrator gave up the job ${job ?? "(unknown)"}`);
  }
  // A start under way ends here; a container without a login was never active.
  await containers.forget(id).catch((error) =>
    log.warning("Cannot let go of an abandoned container", {
      container: id,
      error: messageOf(error),
    })
  );
  const secrets = await readSecrets(store.secrets, id);
  if (container !== undefined && secrets !== undefined) {
    await containers.places.forget(container.sandboxId, secrets.cluster);
  }
  const { account, directory, jobId } = container === undefined
    ? { account: "", directory: undefined, jobId: undefined }
    : workloadOf(container);
  log.warning("A container was abandoned; its job may still run", {
    container: id,
    account,
    ...(jobId === undefined ? {} : { job: jobId }),
    ...(directory === undefined ? {} : { directory }),
  });
  changeState(store, id, (state) =>
    markExited(state, {
      finishedAtMs: clock.now(),
      exitCode: LOST_EXIT_CODE,
      reason: "Abandoned",
      message: `An administrator gave up the job ${jobId ?? "(unknown)"} on ${account}`,
    }));
}
