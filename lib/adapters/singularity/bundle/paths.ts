import { CriError } from "../../../base/error.ts";
import { shown } from "../../../base/shown.ts";

/** What the kernel takes of a path with the NUL at its end, and of one name in it (PATH_MAX, NAME_MAX). */
const MAX_PATH_BYTES = 4096;
const MAX_NAME_BYTES = 255;

/** @throws CriError INVALID_ARGUMENT for what can be no path of this node or of a container. */
export function checkPath(what: string, path: string, isAbsolute = true): void {
  const why = whyNoPath(path) ??
    (isAbsolute && !path.startsWith("/") ? "it must be absolute" : undefined);
  if (why === undefined) return;
  throw new CriError(
    "INVALID_ARGUMENT",
    `Cannot run the container with the ${what} ${shown(path)}: ${why}.`,
  );
}

/** @throws CriError as `checkPath`, also for one that steps back. */
export function checkPathWithin(what: string, path: string): void {
  checkPath(what, path);
  if (!path.split("/").includes("..")) return;
  throw new CriError(
    "INVALID_ARGUMENT",
    `Cannot run the container with the ${what} ${shown(path)}: it must not have "..".`,
  );
}

function whyNoPath(path: string): string | undefined {
  if (path.includes("\0")) return "it must not hold NUL characters";
  const bytes = (text: string) => new TextEncoder().encode(text).length;
  if (bytes(path) >= MAX_PATH_BYTES) return `it must have fewer than ${MAX_PATH_BYTES} bytes`;
  if (path.split("/").every((name) => bytes(name) <= MAX_NAME_BYTES)) return undefined;
  return `each name in it must have ${MAX_NAME_BYTES} bytes at most`;
}
