import { concat } from "@std/bytes/concat";
import type { CriMethod } from "../cri/service.ts";
import { contentsOf, field, stringAt } from "../cri/wire.ts";

/**
 * One answer to a list RPC made of several. Joined wire bytes are the joined lists, since a repeated field may go
 * on anywhere in a message; so nothing is decoded.
 */
export function joinLists(method: CriMethod, answers: readonly Uint8Array[]): Uint8Array {
  const [first] = answers;
  if (answers.length === 1 && first !== undefined) return first;
  const joined = concat([...answers]);
  return method.key === "listMetricDescriptors" ? withoutTwins(joined) : joined;
}

/** Two runtimes of one kind describe the same metrics, and a client registers each name once. */
function withoutTwins(answer: Uint8Array): Uint8Array {
  const byName = new Map<string, Uint8Array>();
  for (const descriptor of contentsOf(answer, 1)) {
    const name = stringAt(descriptor, [1]);
    if (!byName.has(name)) byName.set(name, descriptor);
  }
  return concat([...byName.values()].map((descriptor) => field(1, descriptor)));
}
