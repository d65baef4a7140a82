import { join } from "@std/path";
import type { ClusterSession } from "../../executors/ssh/session.ts";
import type { ContainerLog, LogStream } from "../../logs/container_log.ts";

/** One read; also the most that is held in memory for a container. Larger than any unfinished line. */
const CHUNK_BYTES = 256 * 1024;

/** What is copied for one container before the others get their turn. */
const MAX_TURN_BYTES = 4 * 1024 * 1024;

const STREAMS: readonly LogStream[] = ["stdout", "stderr"];

/**
 * Copies what a job has written since the last call from its directory into the container's log. With
 * `final` the copy goes to the very end, an unfinished last line included; else it stops after a fair share.
 * @throws CriError UNAVAILABLE when the cluster cannot be read; what was copied until then stays copied.
 */
export async function followOutput(
  session: ClusterSession,
  directory: string,
  log: ContainerLog,
  final: boolean,
): Promise<void> {
  for (const stream of STREAMS) {
    let copied = 0;
    while (final || copied < MAX_TURN_BYTES) {
      const from = log.consumedBytes(stream);
      const bytes = await session.readAt(join(directory, stream), from, CHUNK_BYTES);
      if (bytes === undefined || bytes.length === 0) break;
      const atEnd = bytes.length < CHUNK_BYTES;
      const taken = await log.append(stream, bytes, final && atEnd);
      copied += taken;
      if (atEnd) break;
    }
  }
}
