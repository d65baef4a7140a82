import type { Clock } from "../../base/clock.ts";
import { CriError } from "../../base/error.ts";
import type { PortForwarder, PortStreams } from "../../streaming/process.ts";
import type { Store } from "../../store/store.ts";
import type { ClusterAccount } from "./account.ts";
import type { ActiveContainers } from "./active.ts";
import { encodeFields } from "../steps/frames.ts";
import { PORT_PROGRAM } from "./step_programs.ts";
import { onLine } from "./exec_stream.ts";
import { jobOf, type RunningJob, runningSoon } from "./running_job.ts";
import { newNonce, runStep } from "./step.ts";
import { StepInput } from "../steps/step_input.ts";

/**
 * Connects a pod's clients to ports of its containers' jobs: each connection to the first job where something listens.
 * @throws CriError why none of the containers can be reached now.
 */
export async function openPortForward(
  active: ActiveContainers,
  store: Store,
  clock: Clock,
  ids: readonly string[],
  signal: AbortSignal,
): Promise<PortForwarder> {
  const found = await Promise.allSettled(
    ids.map((id) => runningSoon(store, clock, id, "connect to a port of", signal)),
  );
  const running = found.filter((each) => each.status === "fulfilled").map(({ value }) => value);
  if (running.length === 0) {
    throw found[0]?.status === "rejected" ? found[0].reason : new CriError(
      "FAILED_PRECONDITION",
      "Cannot connect to a port of the pod: none of its containers is running.",
    );
  }
  return async (port, streams, gone) => {
    let failure: unknown;
    for (const container of running) {
      const { account } = await active.of(container.id);
      try {
        return await forwardPort(jobOf(container), port, account, clock, streams, gone);
      } catch (error) {
        if (!(error instanceof PortClosed)) throw error;
        failure ??= error;
      }
    }
    throw failure;
  };
}

/** Nothing listens there. */
export class PortClosed extends Error {
  override readonly name = "PortClosed";
}

/**
 * Connects a client to a port of a job's node by a step of the job, so that programs are reached that listen on
 * loopback only, and on sites that forbid ssh's own forwarding. Resolves when both directions have ended.
 * @throws PortClosed, and nothing was sent; CriError as `runStep`. The signal's reason when it aborts.
 */
export async function forwardPort(
  job: RunningJob,
  port: number,
  account: ClusterAccount,
  clock: Clock,
  streams: PortStreams,
  signal: AbortSignal,
): Promise<void> {
  const { jobId, host } = job;
  const purpose = {
    verb: `connect to the port ${port} of the job ${jobId}`,
    noun: `a connection to the port ${port} of the job ${jobId}`,
  };
  await onLine("port", purpose.verb, account, clock, async (session) => {
    const nonce = newNonce();
    const begun = Promise.withResolvers<boolean>();
    // Only from then on, because another job may be the one that has the port.
    const input = new StepInput({ stdin: whenBegun(begun.promise, streams.incoming) });
    try {
      const end = await runStep(
        {
          jobId,
          host,
          account: account.name,
          purpose,
          program: PORT_PROGRAM,
          nonce,
          request: encodeFields([nonce, port, 1]),
          input: input.frames,
          timeoutMs: 0,
        },
        session,
        clock,
        signal,
        (frame) => {
          switch (frame.kind) {
            case "started":
              return begun.resolve(true);
            case "stdout":
              return streams.outgoing(frame.bytes);
            case "taken":
              return input.taken(frame.bytes);
            case "outputEnded":
              return streams.endOutgoing();
          }
        },
      );
      if (end.kind !== "refused") return;
      if (end.why === "ended") {
        throw new PortClosed(`Cannot ${purpose.verb} on ${host}: ${end.text}.`);
      }
      throw new CriError("FAILED_PRECONDITION", `Cannot ${purpose.verb} on ${host}: ${end.text}.`);
    } finally {
      begun.resolve(false);
      await input.close();
    }
  }, signal);
}

/** What comes, from then on; nothing of it is read when it never begins. */
function whenBegun(
  begun: Promise<boolean>,
  bytes: AsyncIterator<Uint8Array>,
): AsyncIterableIterator<Uint8Array> {
  return {
    next: async () => await begun ? await bytes.next() : { done: true, value: undefined },
    [Symbol.asyncIterator]() {
      return this;
    },
  };
}
