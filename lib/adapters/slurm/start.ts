import { CriError, messageOf } from "../../base/error.ts";
import {
  markExited,
  START_ERROR_EXIT_CODE,
  START_ERROR_REASON,
  undoStart,
} from "../../store/container_state.ts";
import type { ActiveContainer, ActiveContainers } from "./active.ts";
import { launchJob, type LaunchPlan } from "./launch.ts";
import { forgetEnvironment, readSecrets } from "./secrets.ts";
import { leftOut } from "./security.ts";
import { readSettings } from "./settings.ts";
import { checkImage } from "./shared_login.ts";
import { cleanContainer } from "./stop.ts";
import { changeState, containerOf, resultsOf, workloadOf } from "./workload.ts";

/** How a launch goes about it; see `LaunchRequest`. */
export interface LaunchManner {
  mayBeSubmitted: boolean;
  keepTrying: () => boolean;
}

/**
 * Launches a container in the background (`active.launch`): from its record to a job that is watched. The promise
 * rejects when the start failed, and the record says so.
 */
export function launch(
  containers: ActiveContainers,
  active: ActiveContainer,
  manner: LaunchManner,
): Promise<void> {
  const abort = new AbortController();
  const work = launchNow(containers, active, manner, abort.signal);
  active.launch = {
    abort,
    settled: work.catch(() => {}).then(() => {
      delete active.launch;
    }),
  };
  return work;
}

async function launchNow(
  containers: ActiveContainers,
  active: ActiveContainer,
  manner: LaunchManner,
  signal: AbortSignal,
): Promise<void> {
  const { id } = active;
  const { config, store, clock, log } = containers;
  const notes = new Set<string>();
  try {
    const jobId = await launchJob(
      {
        ...manner,
        signal,
        container: containerOf(store, id),
        plan: () => planOf(containers, id, notes),
        mapResources: config.mapResources,
        joinCommands: config.joinCommands,
        usageSeconds: config.usageIntervalSeconds,
        kubeletRootDir: config.kubeletRootDir,
        account: active.account,
        keepPlace: (place) => containers.places.add(containerOf(store, id).sandboxId, place),
        note: (message) => containers.note(active, message),
      },
      store,
      clock,
      log,
    );
    await forgetEnvironment(store.secrets, id);
    const workload = workloadOf(containerOf(store, id));
    const what = workload.allocation ? `part of the pod's job ${jobId},` : `job ${jobId}`;
    await containers.note(
      active,
      `${what} submitted to ${active.account.name}, results in ${resultsOf(workload)}`,
    );
    for (const line of notes) await containers.note(active, line);
    containers.watchJob(active, jobId);
  } catch (error) {
    await launchFailed(containers, active, CriError.from(error));
    throw error;
  }
}

/** What is to be submitted; adds to `notes` what of it the container's log must say. */
async function planOf(
  { store, clusters }: ActiveContainers,
  id: string,
  notes: Set<string>,
): Promise<LaunchPlan> {
  const container = containerOf(store, id);
  const sandbox = store.sandboxes.get(container.sandboxId);
  const image = store.images.get(container.imageId);
  const secrets = await readSecrets(store.secrets, id);
  if (sandbox === undefined || image === undefined || secrets?.envs === undefined) {
    throw new CriError(
      "FAILED_PRECONDITION",
      `Cannot start the container ${id}: its sandbox, image or environment is gone from this node.`,
    );
  }
  const settings = readSettings(secrets.envs, sandbox.config, clusters);
  checkImage(image, settings.cluster, clusters);
  for (const line of settings.ignoredLines) notes.add(`ignored: ${line}`);
  for (const line of leftOut(container.config, sandbox.config)) notes.add(line);
  return { sandbox: sandbox.config, image, settings };
}

async function launchFailed(
  containers: ActiveContainers,
  active: ActiveContainer,
  failure: CriError,
): Promise<void> {
  // A cancelled start is judged by whoever cancelled it; a closing server takes it up again.
  if (failure.code === "CANCELLED") return;
  const { id } = active;
  const { store, clock, log } = containers;
  if (failure.code === "UNAVAILABLE" && containerOf(store, id).state.phase === "starting") {
    changeState(store, id, undoStart);
    return;
  }
  await containers.note(active, `the job could not be started: ${messageOf(failure)}`);
  const { directory } = workloadOf(containerOf(store, id));
  if (directory !== undefined) {
    await cleanContainer(store, active, directory).catch((error) =>
      log.warning("Files stay on the cluster until the container is removed", {
        container: id,
        directory,
        error: messageOf(error),
      })
    );
  }
  changeState(store, id, (state) =>
    markExited(state, {
      finishedAtMs: clock.now(),
      exitCode: START_ERROR_EXIT_CODE,
      reason: START_ERROR_REASON,
      message: messageOf(failure),
    }));
  await containers.release(id);
}
