import { join } from "@std/path";
import { ImageFsInfoResponse } from "../cri/api.generated.ts";

/** What a directory holds. */
export interface DiskUsage {
  bytes: bigint;
  inodes: bigint;
}

/** Counts what lies below `directory` now; a missing one holds nothing. */
export async function diskUsage(directory: string): Promise<DiskUsage> {
  const usage = { bytes: 0n, inodes: 0n };
  await measure(directory, usage);
  return usage;
}

/** What lies in a directory of its own, as ImageFsInfo tells it. */
export interface MeasuredDirectory extends DiskUsage {
  directory: string;
  measuredAtMs: number;
}

/**
 * ImageFsInfo of the pool in `directory`: what lies in it, counted now.
 * @param layers What containers have written; absent where that lies on no disk of this node, and then it is the pool's.
 */
export async function poolFsInfo(
  directory: string,
  nowMs: number,
  layers?: MeasuredDirectory,
): Promise<ImageFsInfoResponse> {
  const pool = { directory, measuredAtMs: nowMs, ...await diskUsage(directory) };
  return ImageFsInfoResponse.fromPartial({
    imageFilesystems: [filesystem(pool)],
    containerFilesystems: [filesystem(layers ?? pool)],
  });
}

function filesystem({ directory, measuredAtMs, bytes, inodes }: MeasuredDirectory) {
  return {
    timestamp: BigInt(measuredAtMs) * 1_000_000n,
    fsId: { mountpoint: directory },
    usedBytes: { value: bytes },
    inodesUsed: { value: inodes },
  };
}

async function measure(path: string, usage: DiskUsage): Promise<void> {
  try {
    for await (const entry of Deno.readDir(path)) {
      const child = join(path, entry.name);
      usage.inodes++;
      if (entry.isDirectory) await measure(child, usage);
      else usage.bytes += BigInt((await Deno.lstat(child)).size);
    }
  } catch (error) {
    // A pull in progress removes its files while they are counted.
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
