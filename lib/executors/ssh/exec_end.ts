import type { Connection } from "./connection.ts";
import { wrapScript } from "./shell.ts";

/** Time for a command of our own that kills: a new channel and process on a host that may be busy. */
const KILL_WAIT_MS = 5_000;

/**
 * Kills the process group that `processId` leads on the other side of `connection`, and resolves when
 * `exited` does or KILL_WAIT_MS have passed. It takes a command of its own, outside the channel budget,
 * which keeps a place free for it: closing a command's channel does not end it, and "signal" requests (RFC
 * 4254, 6.9) are ignored by OpenSSH before 7.9. SIGKILL at once, because a leader that heeds SIGTERM
 * may leave members behind that no longer can be found by it.
 */
export async function killProcessGroup(
  connection: Connection,
  processId: number,
  exited: Promise<void>,
): Promise<void> {
  const timeout = new AbortController();
  const killed = runKill(connection, processId, timeout.signal).catch(() => {
    // No channel could be had; the caller sees that the command has not ended.
  });
  await within(KILL_WAIT_MS, exited);
  timeout.abort(new Error("the wait for a command's end is over"));
  await killed;
}

async function runKill(
  connection: Connection,
  processId: number,
  signal: AbortSignal,
): Promise<void> {
  const channel = await connection.openCommandChannel(signal);
  const { stream } = channel;
  stream.resume();
  stream.stderr.resume();
  stream.end(wrapScript(`kill -s KILL -- -${processId} || kill -s KILL ${processId}`).stdinLine);
  await within(KILL_WAIT_MS, channel.closed);
  stream.close();
}

/** Resolves when one of the promises does, or after `waitMs`. */
export async function within(waitMs: number, ...promises: Promise<void>[]): Promise<void> {
  const timedOut = Promise.withResolvers<void>();
  const timer = setTimeout(() => timedOut.resolve(), waitMs);
  await Promise.race([...promises, timedOut.promise]);
  clearTimeout(timer);
}
