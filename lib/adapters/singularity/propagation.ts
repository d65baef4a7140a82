import { CriError } from "../../base/error.ts";
import { shown } from "../../base/shown.ts";
import { MountPropagation } from "../../cri/api.generated.ts";
import type { FoundMount } from "./bundle/asked_mount.ts";
import type { Node } from "./node.ts";

const FIND = 'for path; do findmnt -nro PROPAGATION --target "$path" | tail -n 1; done';

/** What the mount on which a source lies must be, as findmnt(8) calls it, so that mounts can pass. */
const NEEDED: Partial<Record<MountPropagation, { words: readonly string[]; what: string }>> = {
  [MountPropagation.PROPAGATION_BIDIRECTIONAL]: { words: ["shared"], what: "a shared mount" },
  [MountPropagation.PROPAGATION_HOST_TO_CONTAINER]: {
    words: ["shared", "slave"],
    what: "a shared or slave mount",
  },
};

/**
 * Mounts pass between the node and a container only where the node's own mount lets them (mount_namespaces(7)); else
 * the container would wait for them in vain.
 * @throws CriError FAILED_PRECONDITION naming a source that lies on another.
 */
export async function checkPropagation(
  node: Pick<Node, "script">,
  found: readonly FoundMount[],
): Promise<void> {
  const asked = found.flatMap(({ mount, source }) => {
    const needed = NEEDED[mount.propagation];
    return needed === undefined ? [] : [{ ...needed, mount, source }];
  });
  if (asked.length === 0) return;
  const text = await node.script(
    "look at the mounts' sources",
    FIND,
    asked.map((one) => one.source),
  );
  const lines = text.split("\n");
  const bad = asked.find(({ words }, index) =>
    !(lines[index] ?? "").split(",").some((word) => words.includes(word))
  );
  if (bad === undefined) return;
  throw new CriError(
    "FAILED_PRECONDITION",
    `Cannot mount ${shown(bad.mount.hostPath)} at ${
      shown(bad.mount.containerPath)
    } with propagation: on this node it must lie on ${bad.what} (mount --make-rshared).`,
  );
}
