import { concat } from "@std/bytes/concat";
import { CriError } from "../base/error.ts";
import type { CriMethod } from "../cri/service.ts";
import { contentsOf, field, stringAt } from "../cri/wire.ts";
import type { Backend } from "./backend.ts";

/** The field of ImageFsInfoResponse. */
const IMAGE_FILESYSTEMS = 1;

/**
 * One answer to a list RPC made of several. Joined wire bytes are the joined lists, since a repeated field may go
 * on anywhere in a message; so nothing is decoded. (Together they may outgrow what a client takes, with some ten
 * thousand containers.)
 */
export function joinLists(method: CriMethod, answers: readonly Uint8Array[]): Uint8Array {
  const [first] = answers;
  if (answers.length === 1 && first !== undefined) return first;
  const joined = concat([...answers]);
  return method.key === "listMetricDescriptors" ? withoutTwins(joined) : joined;
}

/**
 * One answer to ImageFsInfo made of the backends' parts, the default one's first. The kubelet looks at the first file
 * system of each kind, so those must be the default backend's: it would evict pods by another's.
 * @throws CriError UNAVAILABLE when nothing is known of the default backend.
 */
export function joinFilesystems(
  parts: readonly (Uint8Array | undefined)[],
  backends: readonly Backend[],
): Uint8Array {
  const [first = new Uint8Array(), ...others] = parts;
  if (contentsOf(first, IMAGE_FILESYSTEMS).length === 0) {
    throw new CriError(
      "UNAVAILABLE",
      `Cannot tell the image file system, as the runtime '${
        backends[0]?.name
      }' must tell it and has not yet.`,
    );
  }
  const images = others.flatMap((part) => contentsOf(part ?? new Uint8Array(), IMAGE_FILESYSTEMS));
  return concat([first, ...images.map((content) => field(IMAGE_FILESYSTEMS, content))]);
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
