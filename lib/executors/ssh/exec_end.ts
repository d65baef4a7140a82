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
  const expired = Promise.withResolvers<void>();
  const timer = setTimeout(() => {
    timeout.abort(new Error("the time to kill a command is over"));
    expired.resolve();
  }, KILL_WAIT_MS);
  try {
    const channel = await connection.openCommandChannel(timeout.signal);
    channel.resume();
    channel.stderr.resume();
    channel.end(wrapScript(`kill -s KILL -- -${processId} || kill -s KILL ${processId}`).stdinLine);
    await Promise.race([exited, expired.promise]);
    channel.close();
  } catch {
    // No channel could be had; the caller sees that the command has not ended.
  } finally {
    clearTimeout(timer);
  }
}
