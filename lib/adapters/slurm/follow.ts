import { join } from "@std/path";
import type { ClusterSession } from "../../executors/ssh/session.ts";
import type { ContainerLog, LogStream } from "../../logs/container_log.ts";

/** One read; also the most that is held in memory for a container. Larger than any unfinished line. */
const CHUNK_BYTES = 256 * 1024;

/** What is copied for one container before the others get their turn. */
const MAX_TURN_BYTES = 4 * 1024 * 1024;

const STREAMS: readonly LogStream[] = ["stdout", "stderr"];

/**
 * Copies what a job has written since the last call from its directory into the container's log, at most a fair
 * share. True when nothing was left to copy. With `final` an unfinished last line is copied too, since nothing
 * follows it.
 * @throws CriError UNAVAILABLE when the cluster cannot be read; what was copied until then stays copied.
 */
export async function followOutput(
  session: ClusterSession,
  directory: string,
  log: ContainerLog,
  final: boolean,
): Promise<boolean> {
  const ends = [];
  for (const stream of STREAMS) {
    ends.push(await followStream(session, join(directory, stream), stream, log, final));
  }
  return ends.every((atEnd) => atEnd);
}

async function followStream(
  session: ClusterSession,
  path: string,
  stream: LogStream,
  log: ContainerLog,
  final: boolean,
): Promise<boolean> {
  for (let copied = 0; copied < MAX_TURN_BYTES;) {
    const bytes = await session.readAt(path, log.consumedBytes(stream), CHUNK_BYTES);
    const atEnd = bytes === undefined || bytes.length < CHUNK_BYTES;
    if (bytes !== undefined) copied += await log.append(stream, bytes, final && atEnd);
    if (atEnd) return true;
  }
  return false;
}
