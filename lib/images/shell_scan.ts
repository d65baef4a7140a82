import { createReadStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import { extract } from "tar-stream";
import { blobPath } from "./oci_layout.ts";

/** Where a POSIX shell lies in an image; /bin is a link to usr/bin in many. */
const SHELL_PATHS: ReadonlySet<string> = new Set(["bin/sh", "usr/bin/sh"]);

const GZIP_MAGIC: readonly number[] = [0x1f, 0x8b];

/**
 * Whether an image in an OCI layout has /bin/sh, told from its layers without running anything. Layers are read from
 * the base up and only as far as the shell. A layer that is neither tar nor gzip counts as one without it.
 */
export async function hasShell(layout: string, layerDigests: readonly string[]): Promise<boolean> {
  for (const digest of layerDigests) {
    if (await layerHasShell(blobPath(layout, digest))) return true;
  }
  return false;
}

async function layerHasShell(path: string): Promise<boolean> {
  const archive = extract();
  // pipeline() ends the file and the decompression when the archive is destroyed.
  const zipped = await beginsWith(path, GZIP_MAGIC);
  const source = createReadStream(path);
  const feeding = zipped ? pipeline(source, createGunzip(), archive) : pipeline(source, archive);
  feeding.catch(() => {});
  try {
    for await (const entry of archive) {
      if (SHELL_PATHS.has(entry.header.name.replace(/^(\.?\/)+/, ""))) return true;
      entry.resume();
    }
  } catch {
    // Another compression, or no tar: then the layer counts as one without a shell.
  } finally {
    archive.destroy();
    await feeding.catch(() => {});
  }
  return false;
}

async function beginsWith(path: string, bytes: readonly number[]): Promise<boolean> {
  using file = await Deno.open(path);
  const head = new Uint8Array(bytes.length);
  await file.read(head);
  return bytes.every((byte, index) => head[index] === byte);
}
