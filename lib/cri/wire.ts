/**
 * Reading and changing protobuf messages in wire form, without decoding the rest of them: fields that nobody here
 * knows pass through unharmed. The encoding is https://protobuf.dev/programming-guides/encoding.
 */
import { Buffer } from "node:buffer";
import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { concat } from "@std/bytes/concat";

const decoder = new TextDecoder();

/** A length-delimited field (string, bytes or message) of a message, as a view into it. */
interface Field {
  number: number;
  /** Where the field's tag begins. */
  start: number;
  /** Where the content begins and ends; the field ends with it. */
  contentStart: number;
  end: number;
}

/**
 * The length-delimited fields at the top level of a message, in their order; the others are skipped.
 * @throws {Error} when the bytes are no protobuf message.
 */
function* delimitedFields(message: Uint8Array): Generator<Field> {
  const reader = new BinaryReader(message);
  while (reader.pos < reader.len) {
    const start = reader.pos;
    const [number, type] = reader.tag();
    if (type !== WireType.LengthDelimited) {
      reader.skip(type, number);
      continue;
    }
    const length = reader.uint32();
    const contentStart = reader.pos;
    const end = contentStart + length;
    if (end > reader.len) throw new RangeError("a field ends behind its message");
    reader.pos = end;
    yield { number, start, contentStart, end };
  }
}

/**
 * The contents of all fields with a number, as views.
 * @throws {Error} when the bytes are no protobuf message.
 */
export function contentsOf(message: Uint8Array, fieldNumber: number): Uint8Array[] {
  const found: Uint8Array[] = [];
  for (const { number, contentStart, end } of delimitedFields(message)) {
    if (number === fieldNumber) found.push(message.subarray(contentStart, end));
  }
  return found;
}

/**
 * The string that lies in a message at a path of field numbers, such as `[2, 1]` for field 1 of the message in
 * field 2; empty when it is absent. Of a field that stands several times the last counts.
 * @throws {Error} when the bytes are no protobuf message.
 */
export function stringAt(message: Uint8Array, path: readonly number[]): string {
  let content: Uint8Array | undefined = message;
  for (const number of path) content = contentsOf(content, number).at(-1) ?? new Uint8Array();
  return decoder.decode(content);
}

/** Which strings of a message are meant: by field number, inside nested (also repeated) messages too. */
export interface StringPaths {
  readonly [fieldNumber: number]: StringPaths | "string";
}

/**
 * A copy of a message in which the strings at the paths are changed, wherever they are; everything else is the
 * same bytes. The message itself when nothing changes.
 * @throws {Error} when the bytes are no protobuf message.
 */
export function mapStrings(
  message: Uint8Array,
  paths: StringPaths,
  change: (text: string) => string,
): Uint8Array {
  const parts: Uint8Array[] = [];
  let copied = 0;
  for (const { number, start, contentStart, end } of delimitedFields(message)) {
    const inside = paths[number];
    if (inside === undefined) continue;
    const content = message.subarray(contentStart, end);
    const changed = inside === "string"
      ? changeString(content, change)
      : mapStrings(content, inside, change);
    if (changed === content) continue;
    parts.push(message.subarray(copied, start), field(number, changed));
    copied = end;
  }
  if (copied === 0) return message;
  return concat([...parts, message.subarray(copied)]);
}

function changeString(content: Uint8Array, change: (text: string) => string): Uint8Array {
  const text = decoder.decode(content);
  const changed = change(text);
  return changed === text ? content : new TextEncoder().encode(changed);
}

/** A length-delimited field in wire form. */
export function field(number: number, content: Uint8Array): Uint8Array {
  return new BinaryWriter().tag(number, WireType.LengthDelimited).bytes(content).finish();
}

/**
 * A message with a string at the top level set, whatever it was: of a field that stands twice the last counts.
 */
export function withString(message: Uint8Array, number: number, text: string): Uint8Array {
  return concat([message, field(number, new TextEncoder().encode(text))]);
}

/**
 * Whether the bytes can be a protobuf message, looking into the messages of field `entriesIn` too where it is
 * given. Unlike decoding it costs next to nothing.
 */
export function isMessage(bytes: Uint8Array, entriesIn?: number): boolean {
  try {
    for (const { number, contentStart, end } of delimitedFields(bytes)) {
      if (number !== entriesIn) continue;
      const inner = delimitedFields(bytes.subarray(contentStart, end));
      while (!inner.next().done);
    }
    return true;
  } catch {
    return false;
  }
}

/**
 * Whether a message says nothing: it is empty, or all that it holds is messages that say nothing, as a filter that is
 * there and chooses nothing. What is no message says something.
 */
export function isBlank(message: Uint8Array): boolean {
  if (message.length === 0) return true;
  if (!isMessage(message)) return false;
  let end = 0;
  for (const { start, contentStart, end: fieldEnd } of delimitedFields(message)) {
    if (start !== end || !isBlank(message.subarray(contentStart, fieldEnd))) return false;
    end = fieldEnd;
  }
  return end === message.length;
}

/** Wire bytes as grpc-js wants them; shares the memory. */
export function toBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
