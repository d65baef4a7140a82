import { join } from "@std/path";
import { CriError, messageOf } from "../../base/error.ts";
import type { ArchiveEntry } from "./archive.ts";
import { COPIED_PLUGINS, SHARED_PLUGIN } from "./mounts.ts";
import { CSI_PLUGIN, type VolumePart } from "./volume.ts";

/** What is copied for one container: Kubernetes takes a mebibyte for each ConfigMap and Secret. */
const MAX_COPIED_BYTES = 32 * 1024 * 1024;
/** Files, directories and links of it; a submission has a minute. */
const MAX_COPIED_ENTRIES = 20_000;
/** What is looked at of a volume to find a part of it: of a file server's a few seconds' worth. */
const MAX_LOOKED_ENTRIES = 50_000;
/** A volume that the kubelet rewrites while it is read is read again; it does so once a minute. */
const MAX_TRIES = 5;

/**
 * The kubelet's link to the files that count (pkg/volume/util/atomic_writer.go): it writes a new directory beside the
 * old one and renames a new link over the old, so that readers see all of one version.
 */
export const VERSION_LINK = "..data";
const VERSION = /^\.\.[\w.]+$/;

/** What a container's copies may take together. */
export class CopyBudget {
  #bytes = 0;
  #entries = 0;

  /** Counts one more, and its bytes. @throws CriError INVALID_ARGUMENT when that is too much. */
  take(bytes: number): void {
    this.#bytes += bytes;
    this.#entries++;
    if (this.#bytes <= MAX_COPIED_BYTES && this.#entries <= MAX_COPIED_ENTRIES) return;
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot copy the container's volumes to the cluster: they must hold at most ${MAX_COPIED_BYTES} bytes in ` +
        `${MAX_COPIED_ENTRIES} files, directories and links; put large data into the volume at /multicri.`,
    );
  }

  /** Gives back what entries took that do not count. */
  giveBack(entries: readonly ArchiveEntry[]): void {
    this.#entries -= entries.length;
    for (const entry of entries) {
      if (entry.kind === "file") this.#bytes -= entry.content.length;
    }
  }
}

/** A copy of what the kubelet wrote. */
export interface VolumeCopy {
  /** Of a volume that the kubelet keeps up to date: the name of the directory that counts. */
  version?: string;
  /** The first is the file or directory itself. */
  entries: ArchiveEntry[];
}

/** Which version of a volume counts now; undefined for one without versions. */
export async function volumeVersion(path: string): Promise<string | undefined> {
  try {
    const target = await Deno.readLink(join(path, VERSION_LINK));
    return VERSION.test(target) ? target : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Reads a file or directory of the kubelet's, under the name `name`. Modes are kept, but what the owner may not read
 * becomes readable for him: in a job nobody else is there.
 *
 * No link is followed: every file is opened only after it was seen to be one, and counts only if it is the same file
 * afterwards. Links are copied as links, and must lead to something beside or below them.
 * @throws CriError FAILED_PRECONDITION when it cannot be read, INVALID_ARGUMENT when it cannot be copied.
 */
export async function readVolume(
  path: string,
  name: string,
  budget: CopyBudget,
): Promise<VolumeCopy> {
  let trouble = "";
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    const version = await volumeVersion(path);
    const entries: ArchiveEntry[] = [];
    try {
      const isOld = (child: string) =>
        version !== undefined && child.startsWith("..") && child !== VERSION_LINK &&
        child !== version;
      await readEntry(path, name, budget, entries, isOld);
      if (await volumeVersion(path) === version) {
        return version === undefined ? { entries } : { version, entries };
      }
      trouble = "it changes all the time";
    } catch (error) {
      if (error instanceof CriError) throw error;
      trouble = messageOf(error);
    }
    budget.giveBack(entries);
  }
  throw new CriError(
    "FAILED_PRECONDITION",
    `Cannot read ${path}, which the kubelet must have written: ${trouble}.`,
  );
}

async function readEntry(
  path: string,
  name: string,
  budget: CopyBudget,
  entries: ArchiveEntry[],
  skips: (child: string) => boolean = () => false,
): Promise<void> {
  const info = await Deno.lstat(path);
  const mode = (info.mode ?? 0) & 0o777;
  budget.take(info.isFile ? info.size : 0);
  if (info.isSymlink) {
    const target = await Deno.readLink(path);
    if (target.startsWith("/") || target.split("/").includes("..") || entries.length === 0) {
      throw new CriError(
        "INVALID_ARGUMENT",
        `Cannot copy ${path} to the cluster: a link must lead to something beside or below it, not to ` +
          `${JSON.stringify(target)}.`,
      );
    }
    entries.push({ kind: "link", name, target });
  } else if (info.isDirectory) {
    entries.push({ kind: "directory", name, mode: mode | 0o700 });
    const children = await Array.fromAsync(Deno.readDir(path), (entry) => entry.name);
    for (const child of children.toSorted()) {
      if (skips(child)) continue;
      await readEntry(join(path, child), `${name}/${child}`, budget, entries);
    }
  } else if (info.isFile) {
    entries.push({ kind: "file", name, mode: mode | 0o400, content: await readFile(path, info) });
  } else {
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot copy ${path} to the cluster: it must be a file, a directory or a link.`,
    );
  }
}

/** @throws Error when it is not the file that was looked at. */
async function readFile(path: string, seen: Deno.FileInfo): Promise<Uint8Array> {
  using file = await Deno.open(path);
  const { dev, ino } = await file.stat();
  if (dev !== seen.dev || ino !== seen.ino) throw new Error(`${path} changed`);
  const bytes = new Uint8Array(seen.size);
  let filled = 0;
  while (filled < bytes.length) {
    const count = await file.read(bytes.subarray(filled));
    if (count === null) break;
    filled += count;
  }
  return bytes.subarray(0, filled);
}

/**
 * What the volume of a pod is of which the kubelet made a part (subPath) available.
 * @param podDirectory The kubelet's directory of the pod.
 * @returns Its directory, and whether it is copied or shared; undefined for any other volume.
 */
export async function volumeOfPart(
  podDirectory: string,
  volume: string,
): Promise<{ kind: "copied" | "shared"; path: string } | undefined> {
  for (const plugin of [...COPIED_PLUGINS, SHARED_PLUGIN]) {
    const path = join(podDirectory, "volumes", plugin, volume);
    const found = await Deno.lstat(path).then(({ isDirectory }) => isDirectory, () => false);
    if (found) return { kind: plugin === SHARED_PLUGIN ? "shared" : "copied", path };
  }
  return undefined;
}

/**
 * Where a part lies in its volume: the kubelet binds it to a path that does not tell, but it is the same directory or
 * file (device and inode).
 * @returns A path relative to the volume, "" for all of it; undefined when it is not found.
 */
export async function placeOfPart(
  volumePath: string,
  partPath: string,
): Promise<string | undefined> {
  const part = await Deno.lstat(partPath).catch(() => undefined);
  if (part === undefined) return undefined;
  const isIt = async (path: string) => {
    const info = await Deno.lstat(path).catch(() => undefined);
    return info !== undefined && info.dev === part.dev && info.ino === part.ino;
  };
  if (await isIt(volumePath)) return "";
  let looked = 0;
  // Nearest first: parts lie right in a volume, or a few directories deep.
  for (const places = [""]; places.length > 0;) {
    const place = places.shift() ?? "";
    try {
      for await (const { name, isDirectory } of Deno.readDir(join(volumePath, place))) {
        if (++looked > MAX_LOOKED_ENTRIES) return undefined;
        const child = join(place, name);
        const canBe = isDirectory === part.isDirectory;
        if (canBe && await isIt(join(volumePath, child))) return child;
        if (isDirectory) places.push(child);
      }
    } catch {
      // A directory of a file server into which the node's root may not look.
    }
  }
  return undefined;
}

/**
 * Where a part lies in a volume of the pod that has this name, and whose files the node has as well.
 * @param counts Whether volumes of a plugin count.
 * @returns As `placeOfPart`.
 */
export async function placeInVolume(
  { podDirectory, volume, hostPath }: VolumePart,
  counts: (plugin: string) => boolean,
): Promise<string | undefined> {
  const volumes = join(podDirectory, "volumes");
  const plugins = await Array.fromAsync(Deno.readDir(volumes), ({ name }) => name).catch(() => []);
  for (const plugin of plugins.filter(counts).toSorted()) {
    const path = join(volumes, plugin, volume, plugin === CSI_PLUGIN ? "mount" : "");
    const place = await placeOfPart(path, hostPath);
    if (place !== undefined) return place;
  }
  return undefined;
}
