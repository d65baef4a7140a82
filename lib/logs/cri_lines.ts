/** As containerd: a longer line is cut into pieces tagged P (partial), the last one F (full). */
export const MAX_LINE_BYTES = 16 * 1024;

const NEWLINE = 0x0a;

/**
 * Formats output as CRI log lines, `TIME STREAM F|P TEXT` (kubernetes/design-proposals, kubelet CRI logging).
 * Takes whole lines and full pieces of long ones; an unfinished rest is left for the next call, or with
 * `final` written as a full line. Bytes are kept as they are, whatever their encoding.
 */
export function formatLines(
  bytes: Uint8Array,
  stream: "stdout" | "stderr",
  time: string,
  final: boolean,
): { text: Uint8Array; takenBytes: number } {
  const pieces: { start: number; end: number; full: boolean }[] = [];
  let start = 0;
  while (start < bytes.length) {
    const newline = bytes.indexOf(NEWLINE, start);
    const end = newline === -1 ? bytes.length : newline;
    if (end - start > MAX_LINE_BYTES) {
      pieces.push({ start, end: start + MAX_LINE_BYTES, full: false });
      start += MAX_LINE_BYTES;
    } else if (newline !== -1) {
      pieces.push({ start, end, full: true });
      start = newline + 1;
    } else if (final) {
      pieces.push({ start, end, full: true });
      start = end;
    } else {
      break;
    }
  }
  const encoder = new TextEncoder();
  const head = {
    full: encoder.encode(`${time} ${stream} F `),
    partial: encoder.encode(`${time} ${stream} P `),
  };
  const text = new Uint8Array(
    pieces.reduce((sum, piece) => sum + head.full.length + piece.end - piece.start + 1, 0),
  );
  let at = 0;
  for (const piece of pieces) {
    text.set(piece.full ? head.full : head.partial, at);
    at += head.full.length;
    text.set(bytes.subarray(piece.start, piece.end), at);
    at += piece.end - piece.start;
    text[at++] = NEWLINE;
  }
  return { text, takenBytes: start };
}
