import { Image } from "../cri/api.generated.ts";
import type { ImageRecord } from "../store/records.ts";

/**
 * What is said of an image whose file lies on a cluster: the kubelet takes an image without size for an error
 * (remote_image.go), and nobody here knows it.
 */
const UNKNOWN_SIZE_BYTES = 1;

/** An image as ListImages and ImageStatus tell of it. */
export function listedImage(image: ImageRecord): Image {
  const { user } = image.config;
  const uid = /^\d+(?=:|$)/.exec(user)?.[0];
  return Image.fromPartial({
    id: image.id,
    repoTags: image.names.filter(({ asked }) => !asked.includes("@")).map(({ asked }) =>
      withTag(asked)
    ),
    repoDigests: [...image.repoDigests],
    size: BigInt(image.sif?.sizeBytes ?? UNKNOWN_SIZE_BYTES),
    ...(uid === undefined
      ? { username: user.split(":")[0] ?? "" }
      : { uid: { value: BigInt(uid) } }),
    spec: { image: image.names[0]?.asked ?? image.id },
  });
}

/**
 * By which digest a registry knows the image, from which it was asked for by `asked`: `repository@sha256:…`. Absent
 * when it came from none.
 */
export function repoDigestOf({ repoDigests }: ImageRecord, asked: string): string | undefined {
  return repoDigests.find((known) => known === asked) ??
    repoDigests.find((known) => known.startsWith(`${withoutTag(asked)}@`)) ?? repoDigests[0];
}

/** The name without `:tag` and `@digest`; a port's colon is followed by a slash. */
export function withoutTag(name: string): string {
  return name.replace(/@.*$/s, "").replace(/:[^/:]*$/s, "");
}

/** api.proto's repo_tags carry a tag always, as crictl and the kubelet expect. */
function withTag(name: string): string {
  return /:[^/:]+$/s.test(name) ? name : `${name}:latest`;
}
