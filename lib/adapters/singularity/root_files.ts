import { join } from "@std/path";

/** As the kernel's own bound (path_resolution(7)). */
const MAX_LINKS = 40;
/** Of a file that is read for its lines. */
const MAX_FILE_BYTES = 1024 * 1024;

/**
 * Reads a text file below a root that its image has made: symbolic links lead nowhere out of it. Empty when there is
 * none. Nothing may change there meanwhile.
 */
export async function readBelow(root: string, path: string): Promise<string> {
  const found = await resolveBelow(root, path);
  if (found === undefined) return "";
  const { isFile, size } = await Deno.lstat(found);
  return isFile && size <= MAX_FILE_BYTES ? await Deno.readTextFile(found) : "";
}

/**
 * The path with the links in it followed as if `root` were the root; undefined when there is no such file. Nothing may
 * change there meanwhile.
 * @param leaves Called where the path is absolute, or it or a link steps back beyond the root; it may throw.
 */
export async function resolveBelow(
  root: string,
  path: string,
  leaves: () => void = () => {},
): Promise<string | undefined> {
  if (path.startsWith("/")) leaves();
  const left = path.split("/");
  let at: string[] = [];
  for (let links = 0; left.length > 0;) {
    const part = left.shift();
    if (part === undefined || part === "" || part === ".") continue;
    if (part === "..") {
      if (at.length === 0) leaves();
      at.pop();
      continue;
    }
    const next = join(root, ...at, part);
    const found = await Deno.lstat(next).catch(() => undefined);
    if (found === undefined) return undefined;
    if (!found.isSymlink) {
      at.push(part);
      continue;
    }
    if (++links > MAX_LINKS) return undefined;
    const target = await Deno.readLink(next);
    if (target.startsWith("/")) at = [];
    left.unshift(...target.split("/"));
  }
  return join(root, ...at);
}
