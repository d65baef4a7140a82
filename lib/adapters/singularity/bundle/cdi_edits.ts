import { CriError } from "../../../base/error.ts";
import { shown } from "../../../base/shown.ts";
import type { CdiDeviceNode, CdiEdits } from "./cdi_spec.ts";
import type { NodeDevice } from "./devices.ts";
import type { OciDevice, OciHook, OciMount, OciSpec } from "./oci_spec.ts";

/**
 * Changes a container's configuration as the descriptions of its devices say (CDI, SPEC.md): variables of the same
 * names are replaced, all else is added.
 * @param found The node's devices, those of the descriptions among them.
 * @throws CriError FAILED_PRECONDITION for a device that the node does not have.
 */
export function withEdits(
  spec: OciSpec,
  edits: readonly CdiEdits[],
  found: readonly NodeDevice[],
): OciSpec {
  const { process, linux } = spec;
  const { user } = process;
  const nodes = edits.flatMap(({ deviceNodes }) => deviceNodes)
    .map((node) => ({ node, device: deviceOf(node, user, found) }));
  const paths = new Set(nodes.map(({ device }) => device.path));
  const env = [...process.env, ...edits.flatMap((edit) => edit.env)];
  const mounts = edits.flatMap((edit) => edit.mounts);
  const depth = ({ destination }: OciMount) => destination.split("/").length;
  const gids = [...user.additionalGids, ...edits.flatMap(({ additionalGids }) => additionalGids)];
  const hooks: Record<string, OciHook[]> = {};
  for (const { name, hook } of edits.flatMap((edit) => edit.hooks)) {
    (hooks[name] ??= []).push(hook);
  }
  return {
    ...spec,
    process: {
      ...process,
      env: [...new Map(env.map((entry) => [entry.split("=", 1)[0], entry])).values()],
      user: { ...user, additionalGids: [...new Set(gids)] },
    },
    // What lies deeper is mounted later.
    mounts: [...spec.mounts, ...mounts].toSorted((a, b) => depth(a) - depth(b)),
    ...(Object.keys(hooks).length === 0 ? {} : { hooks }),
    linux: {
      ...linux,
      devices: [
        ...linux.devices.filter(({ path }) => !paths.has(path)),
        ...nodes.map(({ device }) => device),
      ],
      resources: {
        ...linux.resources,
        devices: [
          ...linux.resources.devices ?? [],
          ...nodes.map(({ node, device: { type, major, minor } }) => ({
            allow: true,
            ...{ type, major, minor },
            access: node.permissions,
          })),
        ],
      },
    },
  };
}

function deviceOf(
  node: CdiDeviceNode,
  { uid, gid }: { uid: number; gid: number },
  found: readonly NodeDevice[],
): OciDevice {
  const own = found.find(({ path }) => path === node.hostPath);
  const type = node.type ?? own?.type;
  const major = node.major ?? own?.major;
  const minor = node.minor ?? own?.minor;
  if (type === undefined || major === undefined || minor === undefined) {
    throw new CriError(
      "FAILED_PRECONDITION",
      `Cannot give the container the device ${
        shown(node.hostPath)
      }, which its CDI device names: the node must have it.`,
    );
  }
  return {
    path: node.path,
    type,
    major,
    minor,
    fileMode: node.fileMode ?? own?.mode ?? 0o666,
    // Of a program that is not root's the device is its own (SPEC.md), unless it is said whose it is.
    uid: node.uid ?? (uid > 0 ? uid : own?.uid ?? 0),
    gid: node.gid ?? (gid > 0 ? gid : own?.gid ?? 0),
  };
}
