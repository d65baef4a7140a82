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

/** ImageFsInfo of the pool in `directory`: what lies in it, counted now. */
export async function poolFsInfo(directory: string, nowMs: number): Promise<ImageFsInfoResponse> {
  const usage = await diskUsage(directory);
  const filesystem = {
    timestamp: BigInt(nowMs) * 1_000_000n,
    fsId: { mountpoint: directory },
    usedBytes: { value: usage.bytes },
    inodesUsed: { value: usage.inodes },
  };
  return ImageFsInfoResponse.fromPartial({
    imageFilesystems: [filesystem],
    containerFilesystems: [filesystem],
  });
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
