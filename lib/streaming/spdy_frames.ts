/**
 * Frames of SPDY/3.1 (draft-mbelshe-httpbis-spdy-00, 2.2), as far as Kubernetes uses them: streams that either
 * side half-closes, and pings. Nothing of HTTP travels in them.
 */
import { concat } from "@std/bytes/concat";

/** The types of control frames that mean something to us. */
export const CONTROL = {
  SYN_STREAM: 1,
  SYN_REPLY: 2,
  RST_STREAM: 3,
  PING: 6,
  GOAWAY: 7,
} as const;

/** Status codes of RST_STREAM (2.6.3). */
export const RESET = { PROTOCOL_ERROR: 1, REFUSED_STREAM: 3, CANCEL: 5 } as const;

/** The sender writes no more on the stream: the one flag that is used, in data frames and SYN_STREAM. */
export const FLAG_FIN = 1;

const FRAME_HEADER_BYTES = 8;
const SPDY_VERSION = 3;
/** A control frame is held as a whole; those of Kubernetes' clients have some hundred bytes. */
const MAX_CONTROL_BYTES = 64 * 1024;

export type Frame =
  /** A piece of a data frame as it arrived; `last` when the stream ends with it. */
  | { kind: "data"; streamId: number; bytes: Uint8Array; last: boolean }
  | { kind: "control"; type: number; flags: number; body: Uint8Array };

/** What is no SPDY/3.1; the connection cannot go on. */
export class ProtocolError extends Error {
  override readonly name = "ProtocolError";
}

/** Cuts what arrives into frames. A data frame is given piece by piece, so that none is held. */
export class FrameParser {
  #pending: Uint8Array = new Uint8Array();
  /** The data frame whose rest is to come. */
  #open: { streamId: number; leftBytes: number; fin: boolean } | undefined;

  /**
   * The frames and pieces that are complete with `chunk`, whose memory they share.
   * @throws ProtocolError
   */
  *parse(chunk: Uint8Array): Generator<Frame> {
    let rest = this.#pending.length === 0 ? chunk : concat([this.#pending, chunk]);
    this.#pending = new Uint8Array();
    for (;;) {
      if (this.#open !== undefined) {
        const { streamId, leftBytes, fin } = this.#open;
        if (rest.length === 0 && leftBytes > 0) return;
        const bytes = rest.subarray(0, leftBytes);
        rest = rest.subarray(bytes.length);
        this.#open.leftBytes -= bytes.length;
        const complete = this.#open.leftBytes === 0;
        if (complete) this.#open = undefined;
        yield { kind: "data", streamId, bytes, last: fin && complete };
        continue;
      }
      if (rest.length < FRAME_HEADER_BYTES) break;
      const header = viewOf(rest);
      const first = header.getUint32(0);
      const flags = header.getUint8(4);
      const length = header.getUint32(4) & 0xff_ff_ff;
      if (first < 0x80_00_00_00) {
        this.#open = { streamId: first, leftBytes: length, fin: (flags & FLAG_FIN) !== 0 };
        rest = rest.subarray(FRAME_HEADER_BYTES);
        continue;
      }
      const version = (first >>> 16) & 0x7fff;
      if (version !== SPDY_VERSION) throw new ProtocolError(`it has the version ${version}`);
      if (length > MAX_CONTROL_BYTES) throw new ProtocolError(`a frame has ${length} bytes`);
      if (rest.length < FRAME_HEADER_BYTES + length) break;
      const body = rest.subarray(FRAME_HEADER_BYTES, FRAME_HEADER_BYTES + length);
      rest = rest.subarray(FRAME_HEADER_BYTES + length);
      yield { kind: "control", type: first & 0xffff, flags, body };
    }
    this.#pending = rest;
  }
}

/** What stands before `length` (below 2^24) bytes of a stream. */
export function dataHeader(streamId: number, length: number, fin: boolean): Uint8Array {
  const header = new Uint8Array(FRAME_HEADER_BYTES);
  const view = viewOf(header);
  view.setUint32(0, streamId);
  view.setUint32(4, (fin ? FLAG_FIN << 24 : 0) | length);
  return header;
}

/** A control frame without flags: `fields` of 32 bits each, then `rest`. */
export function controlFrame(
  type: number,
  fields: readonly number[],
  rest?: Uint8Array,
): Uint8Array {
  const length = 4 * fields.length + (rest?.length ?? 0);
  const frame = new Uint8Array(FRAME_HEADER_BYTES + length);
  const view = viewOf(frame);
  view.setUint32(0, 0x80_00_00_00 | (SPDY_VERSION << 16) | type);
  view.setUint32(4, length);
  for (const [index, field] of fields.entries()) {
    view.setUint32(FRAME_HEADER_BYTES + 4 * index, field);
  }
  if (rest !== undefined) frame.set(rest, FRAME_HEADER_BYTES + 4 * fields.length);
  return frame;
}

/** The field of 32 bits at `index` in a control frame's body. @throws ProtocolError when it is shorter. */
export function fieldOf(body: Uint8Array, index: number): number {
  if (body.length < 4 * (index + 1)) throw new ProtocolError("a control frame is too short");
  return viewOf(body).getUint32(4 * index);
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
