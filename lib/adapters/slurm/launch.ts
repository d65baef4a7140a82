import type { Clock } from "../../base/clock.ts";
import { type CriCode, CriError, messageOf } from "../../base/error.ts";
import type { Logger } from "../../base/log.ts";
import { markRunning } from "../../store/container_state.ts";
import type { Store } from "../../store/store.ts";
import type { ContainerRecord, ImageRecord } from "../../store/records.ts";
import type { ClusterAccount } from "./account.ts";
import { endPredecessors } from "./predecessors.ts";
import { type JobFiles, renderJob } from "./job.ts";
import type { ContainerSettings } from "./settings.ts";
import { submitJob } from "./submit.ts";
import { withWorkload } from "./workload.ts";
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

export interface LaunchRequest {
  container: ContainerRecord;
  sandbox: PodSandboxConfig;
  image: ImageRecord;
  settings: ContainerSettings;
  mapResources: boolean;
  account: ClusterAccount;
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
 * A submission whose outcome is not known is repeated until it is known, however long that takes: giving up
 * could leave a job behind that nobody watches.
 *
 * @throws CriError UNAVAILABLE when nothing of it reached the cluster; CANCELLED when `signal` aborted (a job
 * may then exist if `workload.directory` is set, see `findJob`); anything else when the job cannot be run.
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
      const job = await prepare(request, store, log);
      const jobId = await submitJob(account, job, request.settings.submitEnvironment)
        .catch((error) => {
          mayBeSubmitted ||= CriError.from(error).code !== "UNAVAILABLE";
          throw error;
        });
      const now = clock.now();
      store.containers.update(container.id, (record) => ({
        ...withWorkload((workload) => ({ ...workload, jobId, submittedAtMs: now }))(record),
        state: markRunning(record.state, now),
      }));
      log.info("Submitted a job", { container: container.id, job: jobId, cluster: account.name });
      return jobId;
    } catch (error) {
      const failure = CriError.from(error);
      const passing = PASSING_FAILURES.has(failure.code);
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

/** Records where the job's files will lie, brings the image there, and renders the files. */
async function prepare(request: LaunchRequest, store: Store, log: Logger): Promise<JobFiles> {
  const { container, account, image } = request;
  await account.reach();
  const directory = await account.containerDirectory(container.sandboxId, container.id);
  store.containers.update(container.id, withWorkload((workload) => ({ ...workload, directory })));
  const tag = {
    id: container.id,
    podUid: request.sandbox.metadata?.uid ?? "",
    containerName: container.config.metadata?.name ?? "",
    account: account.name,
    directory,
  };
  store.jobTags.put(tag);
  await endPredecessors(tag, account, store, log);
  const imagePath = await account.provideImage(image, request.signal, request.note);
  return renderJob({
    containerId: container.id,
    sandbox: request.sandbox,
    config: container.config,
    image: image.config,
    settings: request.settings,
    mapResources: request.mapResources,
    directory,
    imagePath,
  });
}
