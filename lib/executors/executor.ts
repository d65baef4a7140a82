/** How a command is run: argv in, exit, stdout and stderr out. No shell is involved. */
export interface Executor {
  /**
   * Runs `argv` to its end. Resolves whatever the exit code is.
   * @throws CriError NOT_FOUND when the program does not exist, DEADLINE_EXCEEDED when `timeoutMs` passed
   * (the process was killed), CANCELLED when `signal` aborted (likewise), RESOURCE_EXHAUSTED when the
   * output outgrew `maxOutputBytes`.
   */
  run(argv: readonly [string, ...string[]], options?: RunOptions): Promise<RunResult>;
}

export interface RunOptions {
  stdin?: Uint8Array;
  /** Added to the executor's own environment; the way for secrets, because argv is world-readable. */
  env?: Record<string, string>;
  cwd?: string;
  timeoutMs?: number;
  signal?: AbortSignal;
  /** Bound on stdout and on stderr, each. */
  maxOutputBytes?: number;
  /** Called with each piece of stderr as it arrives, for progress. */
  onStderr?: (chunk: Uint8Array) => void;
}

export interface RunResult {
  /** Exit code; 128 + the signal's number when a signal ended the process. */
  code: number;
  stdout: Uint8Array;
  stderr: Uint8Array;
}
