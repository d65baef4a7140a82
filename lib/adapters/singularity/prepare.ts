import { join } from "@std/path";
import { CriError } from "../../base/error.ts";
import { shown } from "../../base/shown.ts";
import { type ContainerConfig, NamespaceMode } from "../../cri/api.generated.ts";
import type { ContainerRecord } from "../../store/records.ts";
import type { Table } from "../../store/table.ts";
import type { ContainerRequest } from "../adapter.ts";
import { cgroupsPath, writeSpec } from "./bundle/bundle.ts";
import type { FoundMount } from "./bundle/asked_mount.ts";
import type { OciUser } from "./bundle/oci_spec.ts";
import { checkPath } from "./bundle/paths.ts";
import { seccompChoice } from "./bundle/seccomp.ts";
import { type UserNamespace, userNamespaceOf } from "./bundle/user_namespace.ts";
import { cdiDevices } from "./cdi_devices.ts";
import { openImageVolumes } from "./image_volumes.ts";
import type { ImageRoots } from "./image_roots.ts";
import type { Node, NodeFacts } from "./node.ts";
import type { Places } from "./places.ts";
import type { Pods } from "./pods.ts";
import { checkPropagation } from "./propagation.ts";
import { readBelow } from "./root_files.ts";
import nodeProgram from "../steps/node.pl" with { type: "text" };
import shiftOwners from "./shift_owners.pl" with { type: "text" };

/** What is kept of a container in its record. */
export interface NodeWorkload {
  user: OciUser;
  /** As crun was told. */
  cgroupsPath: string;
  /** The signal that asks the program to end, if the image or the pod names one. */
  stopSignal: string;
}

/**
 * Lays a container's own writable layer over its image. $1 the image's files, $2 the folder, $3 more options, $4 the
 * group of the pod's root in a user namespace, which must get through, or nothing. Nobody else gets in: a program of
 * root's that changes its user (setuid) is one for all who can reach it, and a container can make one.
 */
const MAKE_LAYER = `
umask 022
mkdir -p -m 700 -- "$2"
if [ -n "$4" ]; then chgrp -- "$4" "$2"; chmod 710 -- "$2"; fi
mkdir -- "$2/upper" "$2/rootfs"
mkdir -m 700 -- "$2/work"
mount -t overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work$3" multicri "$2/rootfs"`;

/** A changed owner then copies no file into the layer (overlayfs.rst). */
const OWNERS_ALONE = ",metacopy=on";
const SHIFT_OWNERS = nodeProgram + shiftOwners;

/** The folder in it for the layers over images that are volumes. */
const VOLUMES = "volumes";

/** Removes the layer $1. What is not there does not matter. */
const REMOVE_LAYER = `
for root in "$1/rootfs" "$1/${VOLUMES}"/*/rootfs; do umount -l -- "$root" 2>/dev/null || true; done
rm -rf --one-file-system -- "$1"`;

/**
 * Removes the cgroups of the container $1 that crun has left, because a process of it was not quite gone; systemd's are
 * scopes.
 */
const REMOVE_CGROUPS = `
for try in 1 2 3; do
  left=$(find /sys/fs/cgroup -type d \\( -name "$1" -o -name "*-$1.scope" \\) -prune -print 2>/dev/null) || true
  [ -n "$left" ] || exit 0
  for group in $left; do find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.05; done
done`;

/** What a bundle is made with. */
export interface PreparePlace {
  node: Node;
  facts: NodeFacts;
  places: Places;
  pods: Pods;
  imageRoots: ImageRoots;
  containers: Table<ContainerRecord>;
  systemdCgroups: boolean;
}

/**
 * Makes a container's root and its config.json; what a failure leaves is removed.
 * @throws CriError INVALID_ARGUMENT, NOT_FOUND for what the request names and is not there, INTERNAL.
 */
export async function prepareBundle(
  place: PreparePlace,
  request: ContainerRequest,
): Promise<NodeWorkload> {
  const { id, sandboxId, sandbox, config, image, volumeImages } = request;
  const { node, facts, pods, systemdCgroups } = place;
  const { bundle, layer } = place.places.container(id);
  const mounts = await findMounts(node, config);
  await checkPropagation(node, mounts);
  const devices = await findDevices(node, config);
  const withCdiDevices = await cdiDevices(node, config);
  const choice = seccompChoice(config.linux?.securityContext);
  const seccompFile = choice.kind === "file" ? await node.profile(choice.path) : undefined;
  const target = await targetNamespace(place, request);
  const imageIds = [image.id, ...[...volumeImages.values()].map(({ id }) => id)];
  try {
    const userNamespace = userNamespaceOf(sandbox.linux?.securityContext?.namespaceOptions);
    const lower = await place.imageRoots.use(image, id);
    const root = await makeLayer(node, lower, layer, userNamespace);
    const volumes = await openImageVolumes(request, async (volume) => {
      const files = await place.imageRoots.use(volume, id);
      if (userNamespace === undefined) return files;
      const ownLayer = join(layer, VOLUMES, volume.id.replace(/^sha256:/, ""));
      return await makeLayer(node, files, ownLayer, userNamespace);
    });
    const spec = withCdiDevices(writeSpec({
      id,
      sandbox,
      config,
      image: image.config,
      facts,
      root,
      userFiles: {
        passwd: await readBelow(root, "/etc/passwd"),
        group: await readBelow(root, "/etc/group"),
      },
      hostname: pods.hostnameOf(sandbox),
      podFiles: pods.files(sandboxId, sandbox),
      namespaces: pods.namespaces(sandboxId, sandbox),
      userNamespace,
      target,
      mounts: [...mounts, ...volumes],
      devices,
      seccompFile,
      systemdCgroups,
    }));
    await Deno.mkdir(bundle, { recursive: true, mode: 0o700 });
    // crun enters it as the pod's root, which is not ours; config.json is for us alone.
    if (userNamespace !== undefined) await Deno.chmod(bundle, 0o755);
    await Deno.writeTextFile(join(bundle, "config.json"), JSON.stringify(spec), { mode: 0o600 });
    return {
      user: spec.process.user,
      cgroupsPath: cgroupsPath(sandbox.linux?.cgroupParent ?? "", { id, systemdCgroups }),
      stopSignal: image.config.stopSignal,
    };
  } catch (error) {
    await removeBundle(place, id, imageIds, true);
    throw error;
  }
}

/**
 * Makes a layer over an image's files; returns its root, where the users of a namespace have what root and others had.
 */
async function makeLayer(
  node: Node,
  lower: string,
  layer: string,
  users: UserNamespace | undefined,
): Promise<string> {
  const root = join(layer, "rootfs");
  const [more, group] = users === undefined ? ["", ""] : [OWNERS_ALONE, String(users.gids.hostID)];
  await node.script("lay files over an image", MAKE_LAYER, [lower, layer, more, group]);
  if (users !== undefined) await giveTo(node, root, users);
  return root;
}

/** Gives all files below the root to the users of the namespace. */
async function giveTo(node: Node, root: string, { uids, gids }: UserNamespace): Promise<void> {
  const numbers = [uids.hostID, gids.hostID, uids.size, gids.size].map(String);
  const run = 'exec perl -e "$@"';
  await node.script("give the image's files to the pod's users", run, [
    SHIFT_OWNERS,
    root,
    ...numbers,
  ]);
}

/**
 * Removes all that `prepareBundle` made; of a container that has ended in order its supervisor has removed the rest.
 */
export async function removeBundle(
  { node, places, imageRoots }: Pick<PreparePlace, "node" | "places" | "imageRoots">,
  id: string,
  imageIds: readonly string[],
  hasEnded = false,
): Promise<void> {
  const { bundle, layer } = places.container(id);
  await node.script("remove the container's root", REMOVE_LAYER, [layer]);
  if (!hasEnded) await node.script("remove the container's cgroups", REMOVE_CGROUPS, [id]);
  await Deno.remove(bundle, { recursive: true }).catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  });
  for (const imageId of imageIds) await imageRoots.release(imageId, id);
}

/** @throws CriError NOT_FOUND naming a source that is not there. */
async function findMounts(node: Node, { mounts }: ContainerConfig): Promise<FoundMount[]> {
  const ofNode = mounts.filter((mount) => !mount.image?.image);
  for (const { hostPath } of ofNode) checkPath("mount of", hostPath);
  const sources = await node.realPaths(ofNode.map(({ hostPath }) => hostPath));
  return ofNode.map((mount, index) => {
    const source = sources[index];
    if (source !== undefined) return { mount, source };
    throw new CriError(
      "NOT_FOUND",
      `Cannot mount ${shown(mount.hostPath)} at ${shown(mount.containerPath)} into the ` +
        "container: this node has no such path.",
    );
  });
}

async function findDevices(node: Node, { devices, linux }: ContainerConfig) {
  for (const { hostPath } of devices) checkPath("device", hostPath);
  const privileged = linux?.securityContext?.privileged ? ["/dev"] : [];
  return await node.devices([...devices.map(({ hostPath }) => hostPath), ...privileged]);
}

/**
 * The process namespace of the container that this one is to look into, if it is.
 * @throws CriError FAILED_PRECONDITION when that is no running container of the same pod (api.proto).
 */
export async function targetNamespace(
  { containers, places }: Pick<PreparePlace, "containers" | "places">,
  { sandboxId, config: { linux } }: Pick<ContainerRequest, "sandboxId" | "config">,
): Promise<string | undefined> {
  const options = linux?.securityContext?.namespaceOptions;
  if (options?.pid !== NamespaceMode.TARGET) return undefined;
  const { targetId } = options;
  const target = containers.get(targetId);
  if (target?.state.phase !== "running" || target.sandboxId !== sandboxId) {
    throw new CriError(
      "FAILED_PRECONDITION",
      `Cannot look into the processes of the container ${
        shown(targetId)
      }: it must be a running one of the same pod.`,
    );
  }
  const pid = await Deno.readTextFile(join(places.container(targetId).bundle, "pid"));
  return `/proc/${pid.trim()}/ns/pid`;
}
