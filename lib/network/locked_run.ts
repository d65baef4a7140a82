import type { Executor, RunOptions, RunResult } from "../executors/executor.ts";

/**
 * How long a command waits for the end of those before it. In one process they take turns anyway; this is for what a
 * killed server left running, which takes a second at most.
 */
const LOCK_WAIT_SECONDS = 20;

/** sysexits(3) EX_TEMPFAIL: what flock is told to end with when the lock stays taken. */
const LOCK_TAKEN_CODE = 75;

/**
 * Runs a command that holds a lock on a file until it and all that it started have ended (flock(1) becomes the command
 * and the lock passes on). A command outlives a server that is killed: the next server, before it takes back what the
 * command was making, so waits for its end.
 *
 * A lock that stays taken is a daemon's that a plugin has left behind; it is given up by making the file anew. A
 * `shared` one is never waited for, where no other is.
 * @throws CriError as `Executor.run`; what the command had started is then killed with it, unless the lock is shared.
 */
export async function runLocked(
  executor: Executor,
  lockPath: string,
  argv: readonly string[],
  options: RunOptions,
  shared = false,
): Promise<RunResult> {
  const flock = () =>
    executor.run([
      "flock",
      "--no-fork",
      shared ? "--shared" : "--exclusive",
      `--wait=${LOCK_WAIT_SECONDS}`,
      `--conflict-exit-code=${LOCK_TAKEN_CODE}`,
      lockPath,
      ...argv,
    ], options).catch(async (error) => {
      if (!shared) await killHolders(executor, lockPath);
      throw error;
    });
  const result = await flock();
  const taken = result.code === LOCK_TAKEN_CODE &&
    result.stdout.length + result.stderr.length === 0;
  if (!taken) return result;
  await removeLock(lockPath);
  return await flock();
}

/** Kills all that have the file open. */
const KILL_HOLDERS =
  "(readlink // '') eq $ARGV[0] and kill 'KILL', (split m{/})[2] for glob '/proc/[0-9]*/fd/*'";
const KILL_TIMEOUT_MS = 10_000;

/** Kills what a command has left that was killed itself: it holds the lock. */
async function killHolders(executor: Executor, lockPath: string): Promise<void> {
  const path = await Deno.realPath(lockPath).catch(() => undefined);
  if (path === undefined) return;
  // The error that is told is the command's.
  await executor.run(["perl", "-e", KILL_HOLDERS, path], { timeoutMs: KILL_TIMEOUT_MS })
    .catch(() => {});
}

/** Removes a lock's file; a missing one is no error. */
export async function removeLock(lockPath: string): Promise<void> {
  await Deno.remove(lockPath).catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  });
}
