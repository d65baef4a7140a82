/** `status/start`, written by the job when it runs. */
export interface JobStart {
  jobId: string;
  host: string;
  timeMs: number;
}

/** SIGRTMAX of Linux. */
const LAST_SIGNAL = 64;

/** `status/exit`, written by the job at its end. */
export interface JobExit {
  exitCode: number;
  timeMs: number;
  /** Why the program could not be started at all. */
  error: string | undefined;
  /** Whether a signal came to the job, or ended the program: then Slurm may know why. */
  signalled: boolean;
}

/** The files are a few lines; whatever is larger is not ours. */
export const MAX_STATUS_BYTES = 16 * 1024;

/** Undefined when the file is not as the job script writes it. */
export function parseStart(bytes: Uint8Array): JobStart | undefined {
  const fields = parseFields(bytes);
  const timeMs = parseTime(fields.get("time"));
  const [jobId, host] = [fields.get("job"), fields.get("host")];
  if (jobId === undefined || host === undefined || timeMs === undefined) return undefined;
  return { jobId, host, timeMs };
}

/** Undefined when the file is not as the job script writes it. */
export function parseExit(bytes: Uint8Array): JobExit | undefined {
  const fields = parseFields(bytes);
  const code = fields.get("code") ?? "";
  const timeMs = parseTime(fields.get("time"));
  if (!/^\d{1,3}$/.test(code) || Number(code) > 255 || timeMs === undefined) return undefined;
  const exitCode = Number(code);
  const endedBySignal = exitCode > 128 && exitCode <= 128 + LAST_SIGNAL;
  const signalled = fields.has("signal") || endedBySignal;
  return { exitCode, timeMs, error: fields.get("error"), signalled };
}

/** The `key=value` lines of a status file. */
export function parseFields(bytes: Uint8Array): Map<string, string> {
  const lines = new TextDecoder().decode(bytes).split("\n").filter((line) => line.includes("="));
  return new Map(
    lines.map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]),
  );
}

/** `date +%s.%N` as milliseconds since the epoch. */
export function parseTime(seconds: string | undefined): number | undefined {
  return /^\d+(\.\d+)?$/.test(seconds ?? "") ? Number(seconds) * 1000 : undefined;
}
