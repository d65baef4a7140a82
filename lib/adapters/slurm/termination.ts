import { join } from "@std/path";
import { CriError } from "../../base/error.ts";
import type { ContainerConfig, Mount } from "../../cri/api.generated.ts";
import { bindArguments } from "./binds.ts";
import type { ClusterSession } from "../../executors/ssh/session.ts";

/** The kubelet's annotation of a container with its terminationMessagePath, and that path's default. */
const PATH_ANNOTATION = "io.kubernetes.container.terminationMessagePath";
const DEFAULT_PATH = "/dev/termination-log";

/** The file of a container's directory that stands for the termination message, and its place in the container. */
export const TERMINATION_FILE = "termination-log";
const BOUND_PATH = "/.multicri/termination-log";

/** The kubelet reads at most this much of it (MaxContainerTerminationMessageLength is 12 KiB for a whole pod). */
const MAX_MESSAGE_BYTES = 12 * 1024;

/** The mount through which the kubelet reads a container's termination message, if it asks for one. */
export function terminationMount(
  config: Pick<ContainerConfig, "annotations" | "mounts">,
): Mount | undefined {
  const path = Object.hasOwn(config.annotations, PATH_ANNOTATION)
    ? config.annotations[PATH_ANNOTATION]
    : DEFAULT_PATH;
  return config.mounts.find((mount) => mount.containerPath === path);
}

/**
 * The runtime's arguments and the program for a container that may leave a message at `path`. Outside of /dev that is
 * a mount like any other (`planMounts`).
 *
 * A file cannot be bound into the container's own /dev, so a link is put there by the image's shell just before
 * the program; an image without a shell gets none (`hasShell`).
 */
export function withTermination(
  path: string,
  directory: string,
  argv: readonly string[],
  hasShell: boolean,
): { runtimeArguments: string[]; argv: string[] } {
  if (!path.startsWith("/dev/") || !hasShell) return { runtimeArguments: [], argv: [...argv] };
  const script = `ln -s ${BOUND_PATH} "$1" 2>/dev/null; shift; exec "$@"`;
  const source = join(directory, TERMINATION_FILE);
  return {
    runtimeArguments: bindArguments({ source, destination: BOUND_PATH, readonly: false }),
    argv: ["/bin/sh", "-c", script, "sh", path, ...argv],
  };
}

/**
 * Copies the message back to where the kubelet reads it. Comes before the container is called exited, because
 * the kubelet reads it once.
 * @throws CriError UNAVAILABLE when the cluster cannot be read.
 */
export async function copyTerminationMessage(
  session: ClusterSession,
  directory: string,
  hostPath: string,
): Promise<void> {
  const message = await session.readAt(join(directory, TERMINATION_FILE), 0, MAX_MESSAGE_BYTES);
  if (message === undefined || message.length === 0) return;
  await Deno.writeFile(hostPath, message);
}

/** @throws CriError INVALID_ARGUMENT for a path that is not absolute, or a file outside the kubelet's root. */
export function checkTermination(mount: Mount, kubeletRootDir: string): void {
  const place = `the termination message ${JSON.stringify(mount.containerPath)}`;
  if (!mount.containerPath.startsWith("/")) {
    throw new CriError("INVALID_ARGUMENT", `Cannot mount ${place}: its path must be absolute.`);
  }
  if (!mount.hostPath.startsWith(`${kubeletRootDir}/pods/`) || mount.hostPath.includes("/../")) {
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot write ${place} to ${mount.hostPath}: it must lie below --kubelet-root-dir ` +
        `(${kubeletRootDir}/pods).`,
    );
  }
}
