import type { Clock } from "../../base/clock.ts";
import { CriError, messageOf } from "../../base/error.ts";
import { markExited, markRunning } from "../../store/container_state.ts";
import type { Store } from "../../store/store.ts";
import { type ClusterAccount, NO_ANSWER } from "./account.ts";
import type { ActiveContainer, ActiveContainers } from "./active.ts";
import { signalStepScript } from "./allocation_scripts.ts";
import { cleanScript, killScript, terminateScript } from "./cluster_scripts.ts";
import { jobName } from "./job.ts";
import { settleJob } from "./submit.ts";
import { changeState, containerOf, withWorkload, workloadOf } from "./workload.ts";

/** After SIGKILL a job's end is seen within seconds, unless the cluster is away. */
const KILL_WAIT_MS = 60_000;

/** Ends a container as `Adapter.stopContainer` says. @throws CriError UNAVAILABLE while its end cannot be seen. */
export async function stopContainer(
  containers: ActiveContainers,
  id: string,
  graceMs: number,
  signal: AbortSignal,
): Promise<void> {
  const { store, clock } = containers;
  const container = store.containers.get(id);
  if (container === undefined || !["starting", "running"].includes(container.state.phase)) return;
  try {
    const active = await containers.of(id);
    while (active.launch !== undefined) {
      active.launch.abort.abort();
      await active.launch.settled;
    }
    const { directory } = workloadOf(containerOf(store, id));
    // Without an await since the launch was looked for: a start that has not come so far sees this end.
    if (directory === undefined) return await exitWithoutJob(containers, id);
    // A job may exist from here on: the client must come back to it until its end was seen.
    changeState(store, id, (state) => markRunning(state, clock.now()));
    const jobId = await jobOf(store, active, directory);
    if (jobId === undefined) return await exitWithoutJob(containers, id);
    containers.watchJob(active, jobId);
    if (graceMs > 0 && workloadOf(containerOf(store, id)).stop?.killed !== true) {
      markStopping(store, id, false);
      await tellSlurm(active.account, stopScript(store, id, jobId, "TERM"));
      if (await exitedWithin(store, clock, id, graceMs, signal)) return;
    }
    markStopping(store, id, true);
    const words = await tellSlurm(active.account, stopScript(store, id, jobId, "KILL"));
    if (await exitedWithin(store, clock, id, KILL_WAIT_MS, signal)) return;
    const reason = words === "" ? "" : `; Slurm says: ${words}`;
    throw new CriError("UNAVAILABLE", `the job ${jobId} has not ended yet${reason}`);
  } catch (error) {
    signal.throwIfAborted();
    throw new CriError(
      "UNAVAILABLE",
      `Cannot see the end of the container ${id}: ${messageOf(error)}; call again.`,
      { cause: error },
    );
  }
}

/**
 * Removes a container's files from the cluster, but what the program left in `results`, and ends its job if one is
 * there that nobody knew of.
 * @throws CriError UNAVAILABLE when it cannot be done now.
 */
export async function cleanContainer(
  store: Store,
  active: ActiveContainer,
  directory: string,
): Promise<void> {
  if (workloadOf(containerOf(store, active.id)).jobId === undefined) {
    // The start failed, but its outcome on the cluster may never have been seen.
    const jobId = await settleJob(active.account, directory, jobName(active.id));
    if (jobId !== undefined) {
      await tellSlurm(active.account, stopScript(store, active.id, jobId, "KILL"));
    }
  }
  const { results } = workloadOf(containerOf(store, active.id));
  const result = await active.account.session.run(cleanScript(directory, results));
  if (result.code === 0) return;
  throw new CriError(
    "UNAVAILABLE",
    `Cannot remove ${directory} on ${active.account.name}: ${
      new TextDecoder().decode(result.stderr).trim()
    }`,
  );
}

/** The job's id, asked from the cluster when an interrupted start left it unknown; without one there is none. */
async function jobOf(
  store: Store,
  active: ActiveContainer,
  directory: string,
): Promise<string | undefined> {
  const { jobId } = workloadOf(containerOf(store, active.id));
  await active.account.reach();
  if (jobId !== undefined) return jobId;
  const found = await settleJob(active.account, directory, jobName(active.id));
  if (found === undefined) return undefined;
  store.containers.update(active.id, withWorkload((workload) => ({ ...workload, jobId: found })));
  return found;
}

/** What ends a container: its own job, or its part of the pod's. */
function stopScript(store: Store, id: string, jobId: string, signal: "TERM" | "KILL"): string {
  const { allocation = false, directory } = workloadOf(containerOf(store, id));
  if (allocation && directory !== undefined) return signalStepScript(directory, jobId, signal);
  return signal === "TERM" ? terminateScript(jobId) : killScript(jobId);
}

async function exitWithoutJob(containers: ActiveContainers, id: string): Promise<void> {
  changeState(containers.store, id, (state) =>
    markExited(state, {
      finishedAtMs: containers.clock.now(),
      exitCode: 137,
      reason: "Cancelled",
      message: "The container was stopped",
    }));
  await containers.release(id);
}

function markStopping(store: Store, id: string, killed: boolean): void {
  store.containers.update(id, withWorkload((workload) => ({ ...workload, stop: { killed } })));
}

/**
 * Runs a script of scancel commands and returns what they say, on one line; only silence of the cluster is an error.
 */
async function tellSlurm(account: ClusterAccount, script: string): Promise<string> {
  const { stderr } = await account.session.run(script, { timeoutMs: KILL_WAIT_MS });
  const lines = new TextDecoder().decode(stderr).split("\n").map((line) => line.trim());
  const words = [...new Set(lines.filter((line) => line !== ""))].join("; ");
  if (NO_ANSWER.test(words)) {
    throw new CriError("UNAVAILABLE", `Slurm on ${account.name} does not answer: ${words}`);
  }
  return words;
}

async function exitedWithin(
  store: Store,
  clock: Clock,
  id: string,
  ms: number,
  signal: AbortSignal,
): Promise<boolean> {
  const done = new AbortController();
  const either = AbortSignal.any([signal, done.signal]);
  const exited = store.containers.waitFor(id, ({ state }) => state.phase === "exited", either);
  const tooLong = clock.sleep(ms, either).then(() => false);
  try {
    return await Promise.race([exited.then(() => true), tooLong]);
  } finally {
    done.abort();
    await Promise.allSettled([exited, tooLong]);
  }
}
