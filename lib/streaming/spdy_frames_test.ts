import { assertEquals } from "@std/assert";
import { concat } from "@std/bytes/concat";
import { CONTROL, controlFrame, dataHeader, fieldOf, FrameParser } from "./spdy_frames.ts";

/** The frames in `bytes` that come in pieces of `pieceBytes`; the pieces of a data frame joined. */
function parse(bytes: Uint8Array, pieceBytes: number): string[] {
  const parser = new FrameParser();
  const seen: string[] = [];
  let open = "";
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    for (const frame of parser.parse(bytes.subarray(at, at + pieceBytes))) {
      if (frame.kind === "control") seen.push(`control ${frame.type} ${fieldOf(frame.body, 0)}`);
      else {
        open += new TextDecoder().decode(frame.bytes);
        if (frame.last) seen.push(`stream ${frame.streamId} ${open}`);
        if (frame.last) open = "";
      }
    }
  }
  return seen;
}

for (const pieceBytes of [1, 2, 3, 7, 8, 9, 13, 1000]) {
  Deno.test(`FrameParser gives the same frames when they come in pieces of ${pieceBytes} bytes`, () => {
    const text = (value: string) => new TextEncoder().encode(value);
    const bytes: Uint8Array = concat([
      dataHeader(1, 5, false),
      text("hello"),
      controlFrame(CONTROL.PING, [7]),
      dataHeader(1, 6, true),
      text(" world"),
      controlFrame(CONTROL.SYN_REPLY, [3], text("block")),
      dataHeader(0x7fff_ffff, 0, true),
    ]);
    assertEquals(parse(bytes, pieceBytes), [
      "control 6 7",
      "stream 1 hello world",
      "control 2 3",
      "stream 2147483647 ",
    ]);
  });
}
