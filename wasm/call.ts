/** One call of the core: `src/lib.rs` is the other side. */
import { CriError } from "../lib/base/error.ts";
import { call, memory, reserve } from "./core.wasm";
import { FrameReader, type FrameWriter } from "./frame.ts";

/** The operations, numbered as in `src/lib.rs`. */
export enum Operation {
  parseImageName,
  quoteShell,
  renderEnvironment,
  joinCommand,
  parseCustomConfig,
  renderJobScript,
  slurmState,
  parseExitCode,
}

/** Far above what a pod can hold (etcd: 1.5 MiB), far below what the core's 32-bit memory can. */
const MAX_REQUEST_BYTES = 64 * 1024 * 1024;

/**
 * The core's answer to a request, to be read before the next call: `reserve` empties the core's memory, so
 * that a call that failed leaves nothing behind. Throws INVALID_ARGUMENT with the core's sentence when it refuses.
 */
export function perform(operation: Operation, request: FrameWriter): FrameReader {
  if (request.sizeBytes > MAX_REQUEST_BYTES) {
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot read a text of ${request.sizeBytes} bytes as it must have at most ${MAX_REQUEST_BYTES}`,
    );
  }
  const start = reserve(request.sizeBytes) >>> 0;
  request.copyInto(new Uint8Array(memory.buffer, start, request.sizeBytes));
  const answerStart = call(operation, start, request.sizeBytes) >>> 0;
  const sizeBytes = new DataView(memory.buffer).getUint32(answerStart, true);
  const answer = new FrameReader(new Uint8Array(memory.buffer, answerStart + 4, sizeBytes));
  if (!answer.flag()) throw new CriError("INVALID_ARGUMENT", answer.string());
  return answer;
}
