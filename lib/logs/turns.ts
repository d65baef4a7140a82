import { concat } from "@std/bytes/concat";
import { formatLines, type FormattedLines, MAX_TEXT_BYTES } from "./cri_lines.ts";

export type LogStream = "stdout" | "stderr";

/** A program's output on one stream, before it went on with the other. */
export interface Turn {
  stream: LogStream;
  /** Up to where in the stream's bytes. */
  until: number;
  /** Whether nothing follows on the stream, so that an unfinished line is one too. */
  final: boolean;
}

/** How much of a text that is, and how much of each stream's bytes stand in it. */
export interface Extent {
  textBytes: number;
  taken: Record<LogStream, number>;
}

/** Lines of a log. */
export interface LogText {
  text: Uint8Array;
  extent: Extent;
  /** The whole lines that are within the first `bytes` of the text. */
  within(bytes: number): Extent;
}

/**
 * Formats output of both streams as `formatLines` does, in the order in which it came: up to about 1 MiB of log. A line
 * stands where its end came.
 */
export function formatTurns(
  output: Readonly<Record<LogStream, Uint8Array>>,
  turns: Iterable<Turn>,
  time: string,
): LogText {
  const parts: { stream: LogStream; lines: FormattedLines }[] = [];
  const extent: Extent = { textBytes: 0, taken: { stdout: 0, stderr: 0 } };
  for (const { stream, until, final } of turns) {
    if (extent.textBytes >= MAX_TEXT_BYTES) break;
    const bytes = output[stream].subarray(extent.taken[stream], until);
    const lines = formatLines(bytes, stream, time, final);
    parts.push({ stream, lines });
    add(extent, stream, { textBytes: lines.text.length, takenBytes: lines.takenBytes });
  }
  const within = (bytes: number) => {
    const fitting: Extent = { textBytes: 0, taken: { stdout: 0, stderr: 0 } };
    for (const { stream, lines } of parts) {
      const left = bytes - fitting.textBytes;
      const end = lines.ends.findLast(({ textBytes }) => textBytes <= left);
      if (end !== undefined) add(fitting, stream, end);
      if (left < lines.text.length) break;
    }
    return fitting;
  };
  return { text: concat(parts.map(({ lines }) => lines.text)), extent, within };
}

function add(
  extent: Extent,
  stream: LogStream,
  { textBytes, takenBytes }: { textBytes: number; takenBytes: number },
): void {
  extent.textBytes += textBytes;
  extent.taken[stream] += takenBytes;
}
