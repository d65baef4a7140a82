import { CriError } from "../base/error.ts";
import type { ImageRecord } from "../store/records.ts";
import { parseImageName } from "../../wasm/core.ts";

/**
 * The image that a client means: by its id, whole or its beginning, with or without `sha256:`; by a repository's
 * digest; by any of its names in any spelling.
 * @throws CriError INVALID_ARGUMENT for what can be none of them.
 */
export function findImage(all: readonly ImageRecord[], name: string): ImageRecord | undefined {
  if (name === "") {
    throw new CriError("INVALID_ARGUMENT", "Cannot find an image: its name is empty.");
  }
  const images = all.filter((image) => !image.removed);
  const id = name.startsWith("sha256:") ? name : `sha256:${name}`;
  const byId = /^sha256:[0-9a-f]{12,64}$/.test(id)
    ? images.filter((image) => image.id.startsWith(id))
    : [];
  if (byId.length === 1) return byId[0];
  // A whole id is no name: when it is not here, it is gone (the kubelet removes images by id).
  if (/^sha256:[0-9a-f]{64}$/.test(id)) return undefined;
  const byDigest = images.find((image) => image.repoDigests.includes(name));
  if (byDigest !== undefined) return byDigest;
  const { canonical } = parseImageName(name);
  return images.find((image) => image.names.some((known) => known.canonical === canonical));
}

/** Whether the image came as a SIF, and was not built here. */
export function isSifItself({ id, sif }: ImageRecord): boolean {
  return id === `sha256:${sif?.sha256}`;
}

/** Whether the image was pulled by this digest of a manifest. */
export function hasDigest(image: ImageRecord, digest: string): boolean {
  return image.repoDigests.some((known) => known.endsWith(`@${digest}`));
}
