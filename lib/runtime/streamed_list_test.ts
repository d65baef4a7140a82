import { assert, assertEquals } from "@std/assert";
import { Container } from "../cri/api.generated.ts";
import { streamedList } from "./streamed_list.ts";

/** What a client takes. */
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

const container = (id: string, bytes: number) =>
  Container.fromPartial({ id, annotations: { big: "x".repeat(bytes) } });

async function messages(containers: Container[]): Promise<string[][]> {
  const list = streamedList(() => containers, Container, (part) => {
    const size = Container.encode(Container.fromPartial(part[0] ?? {})).finish().length;
    assert(size < MAX_MESSAGE_BYTES);
    return part.map(({ id = "" }) => id);
  });
  return await Array.fromAsync(list);
}

const KIBIBYTE = 1024;
const CASES: [what: string, sizes: number[], lengths: number[]][] = [
  ["it is empty", [], []],
  ["it is small", [10, 10, 10], [3]],
  ["its items are large", [600, 600, 600].map((size) => size * KIBIBYTE), [2, 1]],
  ["an item is larger than a message", [10, 5000 * KIBIBYTE, 10], [2, 1]],
  ["each item fills a message", [2000, 2000].map((size) => size * KIBIBYTE), [1, 1]],
];
for (const [what, sizes, lengths] of CASES) {
  Deno.test(`streamedList() has each item in one message when ${what}`, async () => {
    const containers = sizes.map((size, index) => container(`c${index}`, size));
    const told = await messages(containers);
    assertEquals(told.map((part) => part.length), lengths);
    assertEquals(told.flat(), containers.map(({ id }) => id));
  });
}
