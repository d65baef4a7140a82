/** What the streaming server serves, as those who run it see it: nothing here tells of any protocol. */

/** A terminal's size in characters. */
export interface TerminalSize {
  width: number;
  height: number;
}

/** Takes a piece of output and resolves when the next may come. Rejects when nobody takes any more. */
export type ByteSink = (piece: Uint8Array) => Promise<void>;

/** A client's side of a process. */
export interface CommandStreams {
  /**
   * Ends when the client has no more to say; at once when it never had. The next piece is asked for when there is room.
   */
  stdin: AsyncIterableIterator<Uint8Array>;
  stdout: ByteSink;
  stderr: ByteSink;
  /** Sizes of the client's terminal, the last one only when several came meanwhile. */
  resizes: AsyncIterableIterator<TerminalSize>;
}

/** Which streams a client of a process uses. */
export interface StreamsWanted {
  stdin: boolean;
  stdout: boolean;
  stderr: boolean;
  /** A terminal: then there is no stderr of its own. */
  tty: boolean;
}

/**
 * Runs a process for a client and resolves with its exit code when all of its output was taken. `signal` aborts when
 * the client is gone. What it throws is told to the client.
 */
export type CommandRunner = (streams: CommandStreams, signal: AbortSignal) => Promise<number>;

/** A client's side of one connection to a port. */
export interface PortStreams {
  incoming: AsyncIterableIterator<Uint8Array>;
  outgoing: ByteSink;
  /** Tells the client that nothing more comes; it may still send. */
  endOutgoing: () => Promise<void>;
}

/** Connects a client to a port until both directions have ended. As `CommandRunner`. */
export type PortForwarder = (
  port: number,
  streams: PortStreams,
  signal: AbortSignal,
) => Promise<void>;
