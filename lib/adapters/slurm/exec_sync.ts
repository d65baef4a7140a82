import type { Clock } from "../../base/clock.ts";
import { CriError, messageOf } from "../../base/error.ts";
import type { Store } from "../../store/store.ts";
import type { ExecResult } from "../adapter.ts";
import type { ActiveContainers } from "./active.ts";
import { ContainerStarting, execInJob } from "./exec.ts";
import { execRequest, running, runningSoon } from "./running_job.ts";

/** Between looks at a container that is starting; a prerun may take minutes. */
const STARTING_PAUSE_MS = 1_000;
/** A command without a time limit is tried again this long when it cannot begin: a connection may come back. */
const TRY_AGAIN_MS = 60_000;

/**
 * Runs a command in a container and waits for its end.
 *
 * While the container's job waits in the queue, a command with a time limit is refused at once: it is a probe, and
 * UNAVAILABLE makes the kubelet discard the result, where a failure could end the pod. Only a job that was submitted
 * a moment ago gets that moment to begin. A command without a limit is a hook, whose failure ends the container: it
 * waits for the job, however long the queue is.
 *
 * @throws CriError as `execInJob`.
 */
export async function execSync(
  active: ActiveContainers,
  store: Store,
  clock: Clock,
  id: string,
  argv: readonly string[],
  timeoutMs: number,
  signal: AbortSignal,
): Promise<ExecResult> {
  let failingSinceMs: number | undefined;
  for (;;) {
    const container = timeoutMs > 0
      ? await runningSoon(store, clock, id, "run a command in", signal)
      : await running(store, id, "run a command in", signal);
    const { account } = await active.of(id);
    try {
      const request = execRequest(store, container, argv, timeoutMs);
      return await execInJob(request, account, clock, signal);
    } catch (error) {
      const failure = error instanceof ContainerStarting
        ? new CriError("UNAVAILABLE", messageOf(error))
        : CriError.from(error);
      signal.throwIfAborted();
      if (timeoutMs > 0 || failure.code !== "UNAVAILABLE") throw failure;
      if (error instanceof ContainerStarting) failingSinceMs = undefined;
      else failingSinceMs ??= clock.now();
      if (failingSinceMs !== undefined && clock.now() - failingSinceMs >= TRY_AGAIN_MS) {
        throw failure;
      }
    }
    await clock.sleep(STARTING_PAUSE_MS, signal);
  }
}
