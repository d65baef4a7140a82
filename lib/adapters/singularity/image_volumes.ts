import { type CriCode, CriError, messageOf } from "../../base/error.ts";
import { shown } from "../../base/shown.ts";
import { MountPropagation } from "../../cri/api.generated.ts";
import type { ImageRecord } from "../../store/records.ts";
import type { ContainerRequest } from "../adapter.ts";
import type { FoundMount } from "./bundle/asked_mount.ts";
import { resolveBelow } from "./root_files.ts";

/** What a kubelet counts the failures of image volumes by (ErrImageVolumeMountFailed of cri-api). */
const FAILED = "ImageVolumeMountFailed: ";

/**
 * Finds the files of the images that a container has as volumes: the whole image or a part of it.
 * @param open Gives the folder of an image's files, as the container's users are to see them.
 * @throws CriError INVALID_ARGUMENT for what goes not together, NOT_FOUND for a part that is not there, INTERNAL.
 */
export async function openImageVolumes(
  { config, volumeImages }: Pick<ContainerRequest, "config" | "volumeImages">,
  open: (image: ImageRecord) => Promise<string>,
): Promise<FoundMount[]> {
  const found: FoundMount[] = [];
  /** Several mounts may show parts of one image. */
  const roots = new Map<string, string>();
  for (const mount of config.mounts) {
    const { image, containerPath, hostPath, propagation, imageSubPath, readonly } = mount;
    const record = volumeImages.get(image?.image ?? "");
    if (image === undefined || record === undefined) continue;
    const refuse = (code: CriCode, why: string) =>
      new CriError(
        code,
        `${FAILED}Cannot mount the image ${shown(image.image)} at ${shown(containerPath)}: ${why}`,
      );
    if (hostPath !== "" || propagation !== MountPropagation.PROPAGATION_PRIVATE) {
      throw refuse(
        "INVALID_ARGUMENT",
        "it must have no host path, and its propagation must be private.",
      );
    }
    // A kubelet always says so; whoever does not may count on writing.
    if (!readonly) {
      throw refuse("INVALID_ARGUMENT", "it must be read-only, as images do not change.");
    }
    const root = roots.get(record.id) ?? await open(record).catch((error) => {
      throw refuse(CriError.from(error).code, messageOf(error));
    });
    roots.set(record.id, root);
    const source = await resolveBelow(root, imageSubPath, () => {
      throw refuse(
        "INVALID_ARGUMENT",
        `the path in it, ${
          shown(imageSubPath)
        }, must be relative, and neither ".." in it nor a link may lead out of the image.`,
      );
    });
    if (source === undefined) {
      throw refuse("NOT_FOUND", `it has no ${shown(imageSubPath)}.`);
    }
    found.push({ mount, source });
  }
  return found;
}
