import { CriError } from "../../base/error.ts";
import type { Clock } from "../../base/clock.ts";
import type { CommandStreams } from "../../streaming/process.ts";
import type { ContainerRecord } from "../../store/records.ts";
import type { Store } from "../../store/store.ts";
import type { ClusterAccount } from "./account.ts";
import { encodeFields } from "../steps/frames.ts";
import { ATTACH_PROGRAM } from "./step_programs.ts";
import { onLine, passOutput } from "./exec_stream.ts";
import { hasStdio } from "./job_stdio.ts";
import { jobOf } from "./running_job.ts";
import { newNonce, runStep } from "./step.ts";
import { StepInput } from "../steps/step_input.ts";

/** How long it takes at most until the end of a job is seen that took its steps with it. */
const END_SEEN_MS = 5_000;

/**
 * Follows the output of a container's program from now on, and passes a client's input to it, by a step of its job;
 * resolves with 0 when the program has ended, because a client learns its code from the container's status.
 * @param hasInput Whether the client has a stdin of its own; one that has none ends nothing.
 * @throws CriError as `runStep`. The signal's reason when it aborts; the program runs on.
 */
export async function attachToJob(
  container: ContainerRecord,
  hasInput: boolean,
  account: ClusterAccount,
  store: Store,
  clock: Clock,
  streams: CommandStreams,
  signal: AbortSignal,
): Promise<number> {
  const { jobId, host, directory } = jobOf(container);
  const noun = `the program of the container ${container.id}`;
  const verb = `attach to ${noun}`;
  return await onLine("process", verb, account, clock, async (session) => {
    const nonce = newNonce();
    const input = new StepInput(streams);
    const step = {
      jobId,
      host,
      account: account.name,
      purpose: { verb, noun },
      program: ATTACH_PROGRAM,
      nonce,
      request: encodeFields([
        nonce,
        directory,
        hasStdio(container.config) ? 1 : 0,
        hasInput ? 1 : 0,
      ]),
      input: input.frames,
      timeoutMs: 0,
    };
    try {
      const end = await runStep(
        step,
        session,
        clock,
        signal,
        (frame) => passOutput(frame, streams, input),
      );
      if (end.kind === "exited") return 0;
      const why = end.kind === "refused" ? end.text : "it ended early";
      throw new CriError("FAILED_PRECONDITION", `Cannot ${verb} on ${host}: ${why}.`);
    } catch (error) {
      signal.throwIfAborted();
      // Slurm ends a job's steps with the job, and sometimes before they have seen that it ended.
      if (await endsSoon(container.id, store, clock, signal)) return 0;
      throw error;
    } finally {
      await input.close();
    }
  }, signal);
}

async function endsSoon(
  id: string,
  store: Store,
  clock: Clock,
  signal: AbortSignal,
): Promise<boolean> {
  const over = new AbortController();
  const either = AbortSignal.any([signal, over.signal]);
  const ended = store.containers.waitFor(
    id,
    ({ state }) => state.phase === "exited",
    either,
  ).then(() => true, () => false);
  const late = clock.sleep(END_SEEN_MS, either).then(() => false, () => false);
  const outcome = await Promise.race([ended, late]);
  over.abort();
  return outcome;
}
