/**
 * Numbers of the signals that RFC 4254 names (6.10); they are the same on every system sshd runs on,
 * but for USR1 and USR2, which are given as Linux has them.
 */
const SIGNAL_NUMBERS: Record<string, number> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGILL: 4,
  SIGABRT: 6,
  SIGFPE: 8,
  SIGKILL: 9,
  SIGUSR1: 10,
  SIGSEGV: 11,
  SIGUSR2: 12,
  SIGPIPE: 13,
  SIGALRM: 14,
  SIGTERM: 15,
};

/** What ssh itself gives for an end it cannot put into a number. */
const UNKNOWN_SIGNAL_CODE = 255;

/**
 * The exit code that shells give for an end by signal: 128 and the signal's number. OpenSSH names only the
 * signals of the RFC; for the rest (SIGBUS, SIGXCPU …) it is 255.
 */
export function signalExitCode(signal: string): number {
  const number = SIGNAL_NUMBERS[signal];
  return number === undefined ? UNKNOWN_SIGNAL_CODE : 128 + number;
}
