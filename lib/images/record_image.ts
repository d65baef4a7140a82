import type { ImageRecord } from "../store/records.ts";
import type { Table } from "../store/table.ts";

/** A name that an image was pulled by. */
export type ImageName = ImageRecord["names"][number];

/** An image that nobody has named yet. */
export type NewImage = Omit<ImageRecord, "names" | "repoDigests" | "pulledAtMs" | "removed">;

/** Records an image unless it is known, and names it; returns its id. */
export function recordImage(
  images: Table<ImageRecord>,
  image: NewImage,
  name: ImageName,
  repoDigests: readonly string[],
  nowMs: number,
): string {
  if (images.get(image.id) === undefined) {
    images.put({ ...image, names: [], repoDigests: [], pulledAtMs: nowMs, removed: false });
  }
  return nameImage(images, image.id, name, repoDigests);
}

/** Gives the image `id` a name, and takes it from the image that had it: a tag moves. Returns the id. */
export function nameImage(
  images: Table<ImageRecord>,
  id: string,
  { asked, canonical }: ImageName,
  repoDigests: readonly string[],
): string {
  for (const other of images.all()) {
    if (other.id === id) continue;
    const names = other.names.filter((name) => name.canonical !== canonical);
    if (names.length !== other.names.length) images.put({ ...other, names });
  }
  images.update(id, (image) => ({
    ...image,
    removed: false,
    names: image.names.some((name) => name.asked === asked)
      ? image.names
      : [...image.names, { asked, canonical }],
    repoDigests: [...new Set([...image.repoDigests, ...repoDigests])],
  }));
  return id;
}
