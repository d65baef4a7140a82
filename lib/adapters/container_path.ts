import { join } from "@std/path";
import type { Mount } from "../cri/api.generated.ts";

/** A mount's path in the container: absolute, without `.`, `..`, empty parts and a slash at its end. */
export function placeInContainer({ containerPath }: Pick<Mount, "containerPath">): string {
  return join("/", containerPath).replace(/(?<=.)\/+$/, "");
}
