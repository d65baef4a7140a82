import { dirname, join } from "@std/path";
import type { Clock } from "../../base/clock.ts";
import { type CriCode, CriError, messageOf } from "../../base/error.ts";
import type { Logger } from "../../base/log.ts";
import { markRunning } from "../../store/container_state.ts";
import type { Store } from "../../store/store.ts";
import type { ContainerRecord, ImageRecord } from "../../store/records.ts";
import type { ClusterAccount } from "./account.ts";
import { endPredecessors } from "./predecessors.ts";
import { type JobFiles, jobName, renderJob } from "./job.ts";
import { countingResources } from "./resources.ts";
import type { Place } from "./sandbox_places.ts";
import type { ContainerSettings } from "./settings.ts";
import { findJob, submitJob } from "./submit.ts";
import { sharesAllocation } from "./allocation.ts";
import { planMounts } from "./mounts.ts";
import { stageMounts, stageResults } from "./staging.ts";
import { RESULTS_DIRECTORY, withWorkload, workloadOf } from "./workload.ts";
import type { PodSandboxConfig } from "../../cri/api.generated.ts";

/** Pauses between the tries of a submission whose outcome is not known. */
const FIRST_PAUSE_MS = 1_000;
const MAX_PAUSE_MS = 30_000;

/** The cluster does not answer, or did not answer in time; that passes. */
const PASSING_FAILURES: ReadonlySet<CriCode> = new Set<CriCode>([
  "UNAVAILABLE",
  "UNKNOWN",
  "DEADLINE_EXCEEDED",
  "RESOURCE_EXHAUSTED",
]);

/** What is submitted; read only when it is certain that nothing was submitted before. */
export interface LaunchPlan {
  sandbox: PodSandboxConfig;
  image: ImageRecord;
  settings: ContainerSettings;
}

export interface LaunchRequest {
  container: ContainerRecord;
  /** @throws CriError when the container cannot be run any more. */
  plan: () => Promise<LaunchPlan>;
  mapResources: boolean;
  joinCommands: boolean;
  usageSeconds: number;
  kubeletRootDir: string;
  account: ClusterAccount;
  /** Remembers where the sandbox has volumes, or a job, that its containers share. */
  keepPlace: (place: Place) => Promise<void>;
  /** Writes a line into the container's log. */
  note: (message: string) => Promise<void>;
  /** Whether an earlier process may have submitted the job already. */
  mayBeSubmitted: boolean;
  /** Whether an error that left nothing behind is to be tried again, because nobody waits for it. */
  keepTrying: () => boolean;
  signal: AbortSignal;
}

/**
 * Brings a container's image and files to the cluster and submits its job; resolves with the job's id when
 * the record says that it runs. Safe to call again after any crash.
 *
 * Once a job may exist, only the cluster's own word counts: whatever goes wrong, the question is repeated until
 * it is answered, however long that takes. Giving up could leave a job behind that nobody watches.
 *
 * @throws CriError UNAVAILABLE when nothing of it reached the cluster; CANCELLED when `signal` aborted (a job
 * may then exist if `workload.directory` is set, see `settleJob`); anything else when the job cannot be run.
 */
export async function launchJob(
  request: LaunchRequest,
  store: Store,
  clock: Clock,
  log: Logger,
): Promise<string> {
  const { container, account, signal } = request;
  let mayBeSubmitted = request.mayBeSubmitted;
  for (let pauseMs = FIRST_PAUSE_MS;; pauseMs = Math.min(pauseMs * 2, MAX_PAUSE_MS)) {
    if (signal.aborted) {
      throw new CriError("CANCELLED", `The start of the container ${container.id} was cancelled.`);
    }
    try {
      await account.reach();
      let viaArgv: readonly string[] = [];
      let jobId = mayBeSubmitted ? await lookForJob(container.id, account, store) : undefined;
      mayBeSubmitted = false;
      if (jobId === undefined) {
        const { settings, job } = await prepare(request, store, log);
        mayBeSubmitted = true;
        const submission = await submitJob(account, job, settings.submitEnvironment)
          .catch((error) => {
            mayBeSubmitted = CriError.from(error).code !== "UNAVAILABLE";
            throw error;
          });
        mayBeSubmitted = false;
        if (submission.kind === "refused") throw submission.error;
        jobId = submission.jobId;
        viaArgv = job.viaArgv;
      }
      record(store, container.id, jobId, clock.now());
      if (viaArgv.length > 0) await request.note(describeViaArgv(viaArgv));
      log.info("Submitted a job", { container: container.id, job: jobId, cluster: account.name });
      return jobId;
    } catch (error) {
      const failure = CriError.from(error);
      const passing = mayBeSubmitted || PASSING_FAILURES.has(failure.code);
      if (!passing) throw failure;
      if (!mayBeSubmitted && !request.keepTrying()) {
        throw new CriError("UNAVAILABLE", messageOf(failure), { cause: failure });
      }
      await request.note(`${messageOf(failure)}; trying again`);
      log.warning("A submission is repeated", {
        container: container.id,
        cluster: account.name,
        error: messageOf(failure),
      });
      await clock.sleep(pauseMs, signal).catch(() => {});
    }
  }
}

/** Apptainer passes these on unchanged in no other way. Names only: the values may be secrets. */
function describeViaArgv(names: readonly string[]): string {
  return "set by env(1) in the container, so that the process list of the compute node shows the values while it " +
    `starts: ${names.join(", ")}`;
}

function record(store: Store, containerId: string, jobId: string, now: number): void {
  store.containers.update(containerId, (container) => ({
    ...withWorkload((workload) => ({ ...workload, jobId, submittedAtMs: now }))(container),
    state: markRunning(container.state, now),
  }));
}

/** The job that an earlier try left; nothing can be there before the directory was recorded. */
async function lookForJob(
  containerId: string,
  account: ClusterAccount,
  store: Store,
): Promise<string | undefined> {
  const container = store.containers.get(containerId);
  const directory = container === undefined ? undefined : workloadOf(container).directory;
  if (directory === undefined) return undefined;
  return await findJob(account, directory, jobName(containerId));
}

/** Records where the job's files will lie, brings the image there, and renders the files. */
async function prepare(
  request: LaunchRequest,
  store: Store,
  log: Logger,
): Promise<{ settings: ContainerSettings; job: JobFiles }> {
  const { container, account } = request;
  const { sandbox, image, settings } = await request.plan();
  const directory = await account.containerDirectory(container.sandboxId, container.id);
  const allocation = sharesAllocation(sandbox, settings.options);
  // What one container of several is given changes nothing of their common job.
  const counts = countingResources(request.mapResources && !allocation, settings.options);
  store.containers.update(
    container.id,
    withWorkload((workload) => ({ ...workload, directory, allocation, counts })),
  );
  const tag = {
    id: container.id,
    podUid: sandbox.metadata?.uid ?? "",
    containerName: container.config.metadata?.name ?? "",
    account: account.name,
    directory,
  };
  store.jobTags.put(tag);
  await endPredecessors(tag, account, store, log);
  const mounts = planMounts(container.config, sandbox, request.kubeletRootDir);
  const mount = mounts.find((one) => one.kind === "volume");
  const volume = mount && await account.volumeDirectory(
    mount.claim,
    (made) => request.note(`the volume's directory ${made} was not there and was made`),
  );
  const imagePath = await account.provideImage(
    image,
    volume,
    settings,
    request.signal,
    request.note,
  );
  const staging = await stageMounts(mounts, { directory, volume });
  if (staging.shares || allocation) {
    const { cluster } = settings;
    await request.keepPlace({ cluster, directory: dirname(directory), allocation });
  }
  let inVolume: string | undefined;
  if (mount && volume !== undefined && !mount.readonly) {
    const { sandboxId, id } = container;
    const results = stageResults(staging, volume, sandboxId, id);
    store.containers.update(id, withWorkload((workload) => ({ ...workload, results })));
    inVolume = join(mount.destination, sandboxId, id);
  }
  const job = renderJob({
    containerId: container.id,
    sandboxId: container.sandboxId,
    sandbox,
    config: container.config,
    image,
    settings,
    mapResources: request.mapResources,
    joinCommands: request.joinCommands,
    usageSeconds: request.usageSeconds,
    directory,
    imagePath,
    results: inVolume === undefined
      ? { directory: join(directory, RESULTS_DIRECTORY) }
      : { inVolume },
    staging,
  });
  return { settings, job };
}
