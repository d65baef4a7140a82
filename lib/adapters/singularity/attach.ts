import type { Clock } from "../../base/clock.ts";
import type { CommandStreams } from "../../streaming/process.ts";
import { readPiece, sizeOf } from "./output.ts";
import { passInput, type ProgramInput } from "./program_input.ts";
import type { RunningContainer } from "./running_container.ts";

/** What a client is attached to. */
export interface Attached {
  container: RunningContainer;
  input: Pick<ProgramInput, "path" | "config" | "wanted">;
  hasEnded: () => boolean;
}

/**
 * Passes what a container's program writes from now on to a client, and the client's input to it; resolves with 0 when
 * the program has ended, or the client has left (`passInput`). When `signal` aborts, the program is left alone, but for
 * the end of its input.
 */
export async function attach(
  { container, input, hasEnded }: Attached,
  clock: Clock,
  streams: CommandStreams,
  signal: AbortSignal,
): Promise<number> {
  // Before any input: its answer is output from now on.
  const offsets = {
    stdout: await sizeOf(`${container.files}.stdout`),
    stderr: await sizeOf(`${container.files}.stderr`),
  };
  const stopKeeping = container.keepFor(offsets);
  const [over, left, cut] = [new AbortController(), new AbortController(), new AbortController()];
  const onLeave = () => left.abort();
  const gone = AbortSignal.any([signal, cut.signal]);
  const passed = passInput({ ...input, streams, onLeave, clock }, gone, over.signal)
    // Its program may be gone already, with whom the pipe has no reader; that its end follows says enough.
    .catch(() => {});
  const awake = AbortSignal.any([signal, left.signal]);
  try {
    while (!signal.aborted) {
      const change = container.change;
      const ended = hasEnded();
      const hasLeft = left.signal.aborted;
      let count = 0;
      for (const stream of ["stdout", "stderr"] as const) {
        const piece = await readPiece(`${container.files}.${stream}`, offsets[stream]);
        if (piece.length === 0) continue;
        await streams[stream](piece);
        offsets[stream] += piece.length;
        count += piece.length;
      }
      if (hasLeft || ended && count === 0) {
        over.abort();
        return 0;
      }
      if (count === 0) await container.until(change, awake);
    }
    throw signal.reason;
  } finally {
    stopKeeping();
    // A client that takes no output is gone too, which may be seen here first.
    cut.abort();
    await streams.stdin.return?.();
    await streams.resizes.return?.();
    await passed;
  }
}
