/** Severities in rising order, as the seed's glog flag `--stderrthreshold` numbers them (0 to 3). */
export const SEVERITIES = ["debug", "info", "warning", "error"] as const;
export type Severity = (typeof SEVERITIES)[number];

/** Values that may stand beside a message. Secrets never may. */
export type LogFields = Record<string, string | number | boolean | bigint | undefined>;

/** Writes one line an event: time, severity, message, then `key=value` pairs. */
export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warning(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** A logger that adds `fields` to each of its lines. */
  with(fields: LogFields): Logger;
}

/**
 * A logger over `write`, which gets whole lines without their newline. Lines below `threshold` are
 * dropped. A value is quoted as JSON when it holds anything but plain word characters, so that no input
 * can forge a second line.
 */
export function createLogger(
  options: { threshold: Severity; write: (line: string) => void; now?: () => Date },
): Logger {
  const lowest = SEVERITIES.indexOf(options.threshold);
  const now = options.now ?? (() => new Date());
  const make = (base: LogFields): Logger => {
    const at = (severity: Severity) => (message: string, fields: LogFields = {}) => {
      if (SEVERITIES.indexOf(severity) < lowest) return;
      const pairs = Object.entries({ ...base, ...fields })
        .filter(([, value]) => value !== undefined)
        .map(([key, value]) => ` ${key}=${formatValue(String(value))}`);
      const text = message.replaceAll(/\s*\n\s*/g, "; ");
      options.write(`${now().toISOString()} ${severity.toUpperCase()} ${text}${pairs.join("")}`);
    };
    return {
      debug: at("debug"),
      info: at("info"),
      warning: at("warning"),
      error: at("error"),
      with: (fields) => make({ ...base, ...fields }),
    };
  };
  return make({});
}

function formatValue(value: string): string {
  return /^[\w.,:;/@+%-]+$/.test(value) ? value : JSON.stringify(value);
}

const encoder = new TextEncoder();

/**
 * Writes a line to stderr at once, in order, as `console.error` would but without its formatting. A reader
 * that is gone is no reason to fail: there is nobody left to tell.
 */
export function writeStderrLine(line: string): void {
  writeLine(Deno.stderr, line);
}

/** The same to stdout. */
export function writeStdoutLine(line: string): void {
  writeLine(Deno.stdout, line);
}

function writeLine(stream: { writeSync(bytes: Uint8Array): number }, line: string): void {
  const bytes = encoder.encode(line + "\n");
  try {
    for (let at = 0; at < bytes.length;) at += stream.writeSync(bytes.subarray(at));
  } catch (error) {
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
}
