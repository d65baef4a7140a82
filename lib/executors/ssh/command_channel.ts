// @ts-types="@types/ssh2"
import type { ClientChannel } from "ssh2";

/** How the remote process ended: a code, or null and the name of a signal. */
export interface CommandExit {
  code: number | null;
  signal: string | undefined;
}

/**
 * A channel that runs a command. It must be made in the very callback that ssh2 gives the channel to: a fast
 * command's exit is told in the same packet, and events without a listener are lost.
 */
export class CommandChannel {
  /** Resolves when the end of the process was told, or never will be. */
  readonly exited: Promise<void>;
  /** Resolves when nothing more can come. It needs both outputs of `stream` to be read. */
  readonly closed: Promise<void>;
  #exit: CommandExit | undefined;

  constructor(readonly stream: ClientChannel) {
    const exited = Promise.withResolvers<void>();
    const closed = Promise.withResolvers<void>();
    this.exited = exited.promise;
    this.closed = closed.promise;
    stream.on("exit", (code: number | null, signal?: string) => {
      this.#exit = { code, signal };
      exited.resolve();
    });
    stream.on("close", () => {
      exited.resolve();
      closed.resolve();
    });
    // Without listeners, an error would end this process; the close event follows and is what counts.
    stream.on("error", () => {});
    stream.stderr.on("error", () => {});
  }

  /** Undefined while the process runs, and for ever when the connection was lost before it ended. */
  get exit(): CommandExit | undefined {
    return this.#exit;
  }
}
