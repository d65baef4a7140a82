import type { DeepPartial, MessageFns } from "../cri/api.generated.ts";

/**
 * A message of a streamed list is ended when it has this many bytes: far below what a client takes (16 MiB, of which
 * one item may take nearly all), and so large that a usual list is one message.
 */
const MESSAGE_BYTES = 1024 * 1024;

/**
 * A list as the messages that `toMessage` makes of its parts, for the calls that stream one (api.proto: each item in
 * exactly one message, no message without an item; how many is the runtime's choice).
 */
export function streamedList<T, M>(
  items: () => readonly DeepPartial<T>[] | Promise<readonly DeepPartial<T>[]>,
  codec: MessageFns<T>,
  toMessage: (part: DeepPartial<T>[]) => M,
): AsyncIterable<M> {
  return ReadableStream.from(messages(items, codec, toMessage));
}

async function* messages<T, M>(
  items: () => readonly DeepPartial<T>[] | Promise<readonly DeepPartial<T>[]>,
  codec: MessageFns<T>,
  toMessage: (part: DeepPartial<T>[]) => M,
): AsyncGenerator<M> {
  let part: DeepPartial<T>[] = [];
  let bytes = 0;
  for (const item of await items()) {
    part.push(item);
    bytes += codec.encode(codec.fromPartial(item)).finish().length;
    if (bytes < MESSAGE_BYTES) continue;
    yield toMessage(part);
    part = [];
    bytes = 0;
  }
  if (part.length > 0) yield toMessage(part);
}
