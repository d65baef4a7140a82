/** As containerd: a longer line is cut into pieces tagged P (partial), the last one F (full). */
export const MAX_LINE_BYTES = 16 * 1024;

/** Bound on what is formatted at once: short lines become many times longer. */
export const MAX_TEXT_BYTES = 1024 * 1024;

const NEWLINE = 0x0a;
const CARRIAGE_RETURN = 0x0d;

/** Lines of a log, and which bytes of the output they hold. */
export interface FormattedLines {
  text: Uint8Array;
  /** From the beginning of the output. */
  takenBytes: number;
  /** Where each line ends in `text`, and how much of the output stands in it until there. */
  ends: readonly { textBytes: number; takenBytes: number }[];
}

/**
 * Formats output as CRI log lines, `TIME STREAM F|P TEXT` (kubernetes/design-proposals, kubelet CRI logging).
 * Takes whole lines and full pieces of long ones, up to 1 MiB of log; an unfinished rest is left for the next call,
 * or with `final` written as a full line. A terminal's carriage return before the newline is left out, as in
 * containerd; other bytes are kept as they are, whatever their encoding.
 */
export function formatLines(
  bytes: Uint8Array,
  stream: "stdout" | "stderr",
  time: string,
  final: boolean,
): FormattedLines {
  const encoder = new TextEncoder();
  const head = {
    full: encoder.encode(`${time} ${stream} F `),
    partial: encoder.encode(`${time} ${stream} P `),
  };
  const pieces: { start: number; end: number; full: boolean }[] = [];
  const ends: { textBytes: number; takenBytes: number }[] = [];
  let start = 0;
  let textBytes = 0;
  // The first newline from `start` on; -1 when there is none. Looked for once, not for each piece of a long line.
  let newline = bytes.indexOf(NEWLINE);
  while (start < bytes.length && textBytes < MAX_TEXT_BYTES) {
    if (newline !== -1 && newline < start) newline = bytes.indexOf(NEWLINE, start);
    const lineEnd = newline === -1 ? bytes.length : newline;
    const full = lineEnd - start <= MAX_LINE_BYTES;
    if (full && newline === -1 && !final) break;
    const end = full ? lineEnd : start + MAX_LINE_BYTES;
    const isEnded = full && newline !== -1;
    const shownEnd = isEnded && end > start && bytes[end - 1] === CARRIAGE_RETURN ? end - 1 : end;
    pieces.push({ start, end: shownEnd, full });
    textBytes += head.full.length + shownEnd - start + 1;
    start = isEnded ? end + 1 : end;
    ends.push({ textBytes, takenBytes: start });
  }
  const text = new Uint8Array(textBytes);
  let at = 0;
  for (const piece of pieces) {
    text.set(piece.full ? head.full : head.partial, at);
    at += head.full.length;
    text.set(bytes.subarray(piece.start, piece.end), at);
    at += piece.end - piece.start;
    text[at++] = NEWLINE;
  }
  return { text, takenBytes: start, ends };
}
