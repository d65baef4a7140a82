import { messageOf } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import type { ByteSink, CommandRunner, StreamsWanted } from "./process.ts";
import { exitStatus, failureStatus } from "./status.ts";
import type { TerminalSizes } from "./terminal_sizes.ts";

/** What Exec and Attach are served with, whichever protocol the client speaks. */
export interface CommandService {
  wanted: StreamsWanted;
  run: CommandRunner;
}

/** The client's streams, each as its protocol carries it. */
export interface CommandChannels {
  /** Versions before the fourth are told a failure in plain words, and success by nothing. */
  statusAsJson: boolean;
  stdin: AsyncIterableIterator<Uint8Array>;
  resizes: TerminalSizes;
  stdout: ByteSink;
  stderr: ByteSink;
  /** Writes and ends the stream `error`. */
  status: ByteSink;
  /** Aborts when the client is gone. */
  signal: AbortSignal;
}

/** Runs the process for its client and tells the client how it ended. */
export async function serveCommand(
  service: CommandService,
  channels: CommandChannels,
  log: Logger,
): Promise<void> {
  const { stdin, resizes, stdout, stderr, signal } = channels;
  const status = await service.run({ stdin, stdout, stderr, resizes }, signal).then(
    exitStatus,
    (error) => {
      log.info("A command of a stream failed", { error: messageOf(error) });
      return failureStatus(error);
    },
  );
  if (signal.aborted) return;
  const text = channels.statusAsJson
    ? JSON.stringify(status)
    : status["status"] === "Success"
    ? ""
    : String(status["message"]);
  await channels.status(new TextEncoder().encode(text)).catch(() => {
    // The client is gone.
  });
}

/** For a stream that the client has not asked for: takes everything. */
export function drop(): Promise<void> {
  return Promise.resolve();
}
