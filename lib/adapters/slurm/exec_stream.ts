import { CriError, messageOf } from "../../base/error.ts";
import type { Clock } from "../../base/clock.ts";
import type { CommandStreams } from "../../streaming/process.ts";
import type { ClusterAccount } from "./account.ts";
import { ContainerStarting, enterStep, type ExecRequest, exitCodeOf } from "./exec.ts";
import type { Frame } from "../steps/frames.ts";
import { runStep, START_LIMIT_MS } from "./step.ts";
import { StepInput } from "../steps/step_input.ts";
import { MAX_STREAMS, type StreamKind } from "./stream_lines.ts";

/**
 * Runs a command in a container with a client's streams, and with `tty` on a terminal of its own; resolves with its
 * exit code when the client has taken all of its output. It is killed when `signal` aborts.
 * @throws CriError as `execInJob`.
 */
export async function streamExec(
  request: ExecRequest,
  tty: boolean,
  account: ClusterAccount,
  clock: Clock,
  streams: CommandStreams,
  signal: AbortSignal,
): Promise<number> {
  const step = enterStep(request, account.name, tty ? "tty" : "pipe");
  return await onLine("process", step.purpose.verb, account, clock, async (session) => {
    const input = new StepInput(streams);
    try {
      const end = await runStep(
        { ...step, input: input.frames },
        session,
        clock,
        signal,
        (frame) => passOutput(frame, streams, input),
      );
      return exitCodeOf(end, request);
    } catch (error) {
      if (error instanceof ContainerStarting) throw new CriError("UNAVAILABLE", messageOf(error));
      throw error;
    } finally {
      await input.close();
    }
  }, signal);
}

/** Gives a step's output to its client; the next is waited with until the client has taken it. */
export function passOutput(
  frame: Frame,
  { stdout, stderr }: Pick<CommandStreams, "stdout" | "stderr">,
  input: StepInput,
): Promise<void> | undefined {
  switch (frame.kind) {
    case "stdout":
      return stdout(frame.bytes);
    case "stderr":
      return stderr(frame.bytes);
    case "taken":
      input.taken(frame.bytes);
  }
}

/**
 * Runs `work` on one of the account's connections for streams, when its turn comes.
 * @throws CriError UNAVAILABLE when it does not come in time.
 */
export async function onLine<T>(
  kind: StreamKind,
  verb: string,
  account: ClusterAccount,
  clock: Clock,
  work: Parameters<typeof account.lines.run<T>>[1],
  signal: AbortSignal,
): Promise<T> {
  const begun = new AbortController();
  const late = new AbortController();
  clock.sleep(START_LIMIT_MS, AbortSignal.any([signal, begun.signal])).then(
    () =>
      late.abort(
        new CriError(
          "UNAVAILABLE",
          `Cannot ${verb} on ${account.name}: ${
            MAX_STREAMS[kind]
          } such streams were open all the time ` +
            `for ${START_LIMIT_MS} ms.`,
        ),
      ),
    () => {},
  );
  return await account.lines.run(kind, (session) => {
    begun.abort();
    return work(session);
  }, AbortSignal.any([signal, late.signal])).finally(() => begun.abort());
}
