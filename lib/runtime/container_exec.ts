import { CriError } from "../base/error.ts";
import type { ExecSyncRequest, ExecSyncResponse } from "../cri/api.generated.ts";
import { requireById } from "./lookup.ts";
import type { Runtime } from "./runtime.ts";

/** A longer time limit is none: no cluster lets a job run so long. */
const MAX_TIMEOUT_SECONDS = 24 * 24 * 3600;

/**
 * ExecSync: runs a command in a running container; its exit code, whatever it is, is a result.
 * @throws CriError NOT_FOUND without the container, FAILED_PRECONDITION when it does not run, DEADLINE_EXCEEDED
 * when the command ran longer than `timeout` seconds, which the kubelet counts as a failed probe, and whatever
 * keeps the command from running, which it does not.
 */
export async function execSync(
  runtime: Runtime,
  { containerId, cmd, timeout }: ExecSyncRequest,
  signal: AbortSignal,
): Promise<ExecSyncResponse> {
  const id = requireRunning(runtime, containerId, "run a command");
  if (cmd.length === 0 || cmd[0] === "") {
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot run a command in the container ${id}: the command is empty.`,
    );
  }
  if (timeout < 0n) {
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot run a command in the container ${id}: its timeout must be 0 or more seconds, not ${timeout}.`,
    );
  }
  const seconds = timeout > MAX_TIMEOUT_SECONDS ? 0 : Number(timeout);
  return await runtime.adapter.execSync(id, cmd, seconds * 1000, signal);
}

/** The whole id of a container that runs or starts. @throws CriError NOT_FOUND, FAILED_PRECONDITION */
export function requireRunning(runtime: Runtime, containerId: string, purpose: string): string {
  const { id, state } = requireById(runtime.store.containers, "container", containerId);
  if (state.phase === "created" || state.phase === "exited") {
    throw new CriError(
      "FAILED_PRECONDITION",
      `Cannot ${purpose} in the container ${id}: it must be running, but it is ${state.phase}.`,
    );
  }
  return id;
}
