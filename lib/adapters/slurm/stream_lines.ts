import type { ClusterSession } from "../../executors/ssh/session.ts";
import { Slots } from "../../base/slots.ts";

/**
 * Streams of one account at once: terminals, commands and attached programs; apart from them, because a browser opens
 * many, connections to ports; commands of probes and hooks; and jobs that are followed on their nodes, each an srun on
 * the login host.
 */
export const MAX_STREAMS = { process: 16, port: 16, command: 8, follow: 32 } as const;
export type StreamKind = keyof typeof MAX_STREAMS;

/** Channels of one connection that streams use: as many as its `ChannelBudget` gives out. */
const STREAMS_PER_LINE = 8;

/**
 * The connections of an account for what runs in its jobs, which may last for hours, apart from the one that submits,
 * watches and stops, so that nothing of it ever keeps those waiting. They are made when they are needed and close when
 * they stay unused.
 */
export class StreamLines {
  readonly #turns: Record<StreamKind, Slots> = {
    process: new Slots(MAX_STREAMS.process),
    port: new Slots(MAX_STREAMS.port),
    command: new Slots(MAX_STREAMS.command),
    follow: new Slots(MAX_STREAMS.follow),
  };
  /** How many streams each line has. */
  readonly #streams: number[] = new Array(
    Object.values<number>(MAX_STREAMS).reduce((sum, most) => sum + most) / STREAMS_PER_LINE,
  ).fill(0);

  /** `acquire` gives the session of a line, counted from 1; `release` takes it back. */
  constructor(
    private readonly acquire: (line: number) => ClusterSession,
    private readonly release: (session: ClusterSession) => void,
  ) {}

  /** First come, first served within a kind. Rejects with the signal's reason when it aborts before its turn. */
  run<T>(
    kind: StreamKind,
    work: (session: ClusterSession) => Promise<T>,
    signal: AbortSignal,
  ): Promise<T> {
    return this.#turns[kind].run(async () => {
      // The first with room, so that few connections are open.
      const index = this.#streams.findIndex((count) => count < STREAMS_PER_LINE);
      this.#count(index, 1);
      const session = this.acquire(index + 1);
      try {
        return await work(session);
      } finally {
        this.#count(index, -1);
        this.release(session);
      }
    }, signal);
  }

  #count(index: number, change: number): void {
    this.#streams[index] = (this.#streams[index] ?? 0) + change;
  }
}
