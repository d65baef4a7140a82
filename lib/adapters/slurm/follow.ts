import { Mutex } from "async-mutex";
import { join } from "@std/path";
import { Slots } from "../../base/slots.ts";
import type { ClusterSession } from "../../executors/ssh/session.ts";
import type { ContainerLog } from "../../logs/container_log.ts";
import type { LogStream } from "../../logs/turns.ts";

/** One read: eight pieces of sftp, all but the first on their way together. Larger than any unfinished line. */
const READ_BYTES = 1024 * 1024;

/** What is read of one stream before other jobs get their turn: some 30 ms. */
const MAX_TURN_BYTES = 2 * 1024 * 1024;

/** Streams of one account that are read at once: what they hold, a read and its lines each, is all the memory. */
const MAX_READS_AT_ONCE = 8;

const STREAMS: readonly LogStream[] = ["stdout", "stderr"];

/** Where output is copied from. */
export interface OutputSource {
  readonly session: ClusterSession;
  /** Shared by all jobs of the account; see `readTurns`. */
  readonly turns: Slots;
}

/** For how many streams of one account are read at once. */
export function readTurns(): Slots {
  return new Slots(MAX_READS_AT_ONCE);
}

/** How a look at a job's output is meant. */
export interface Look {
  /**
   * Open the files whatever their attributes say: a network file system may show old ones of a file that is not opened
   * (close-to-open consistency, nfs(5)).
   */
  certain: boolean;
  /** The program has ended: an unfinished last line is copied too, since nothing follows it. */
  final: boolean;
}

/** What a look found. */
export interface Followed {
  /** Nothing was left that can be copied now. */
  atEnd: boolean;
  /** There was something new. */
  lively: boolean;
}

/** Copies what a job writes into the container's log, from where the log says that it ends. */
export class OutputFollower {
  /** Where each stream ended when it was read last: while it ends there, there is nothing to read. */
  readonly #endBytes: Record<LogStream, number> = { stdout: 0, stderr: 0 };
  /** Of a stream, one at a time: what is read belongs behind what the log held when it was asked for. */
  readonly #appending: Record<LogStream, Mutex> = { stdout: new Mutex(), stderr: new Mutex() };

  /** @param directory The container's, on the cluster. */
  constructor(private readonly directory: string, private readonly log: ContainerLog) {}

  /**
   * Copies what came since the last call, at most a fair share.
   * @throws CriError UNAVAILABLE when the cluster cannot be read; what was copied until then stays copied.
   */
  async follow(source: OutputSource, look: Look): Promise<Followed> {
    const found: Followed[] = [];
    for (const stream of STREAMS) found.push(await this.#followStream(source, stream, look));
    return {
      atEnd: found.every(({ atEnd }) => atEnd),
      lively: found.some(({ lively }) => lively),
    };
  }

  /** Whether the log takes no more until it is rotated. */
  get isFull(): boolean {
    return this.log.isFull;
  }

  /** How far each stream is in the log. */
  consumed(): Record<LogStream, number> {
    return { stdout: this.log.consumedBytes("stdout"), stderr: this.log.consumedBytes("stderr") };
  }

  /**
   * Copies what came in another way than by `follow`: bytes of a stream from `atBytes` on, which is not beyond what the
   * log holds; what it holds of them already is left out. `final` as in `Look`. Resolves with where the log then ends.
   */
  push(stream: LogStream, atBytes: number, bytes: Uint8Array, final: boolean): Promise<number> {
    return this.#appending[stream].runExclusive(async () => {
      const held = this.log.consumedBytes(stream) - atBytes;
      if (held < bytes.length) await this.#append(stream, bytes.subarray(held), final);
      return this.log.consumedBytes(stream);
    });
  }

  /** Bytes of a stream that are on the cluster and not in the log. */
  async missingBytes(session: ClusterSession, stream: LogStream): Promise<number> {
    const found = await session.stat(join(this.directory, stream));
    return Math.max(0, (found?.sizeBytes ?? 0) - this.log.consumedBytes(stream));
  }

  async #followStream(source: OutputSource, stream: LogStream, look: Look): Promise<Followed> {
    const { session, turns } = source;
    const path = join(this.directory, stream);
    if (!look.certain && !look.final) {
      const { sizeBytes = 0 } = await session.stat(path) ?? {};
      if (sizeBytes === this.#endBytes[stream]) return { atEnd: true, lively: false };
    }
    return await turns.run(() =>
      this.#appending[stream].runExclusive(() => this.#copy(session, path, stream, look.final))
    );
  }

  async #copy(
    session: ClusterSession,
    path: string,
    stream: LogStream,
    final: boolean,
  ): Promise<Followed> {
    const before = this.#endBytes[stream];
    for (let read = 0; read < MAX_TURN_BYTES && !this.log.isFull;) {
      const from = this.log.consumedBytes(stream);
      const bytes = await session.readAt(path, from, READ_BYTES);
      if (bytes === undefined) return { atEnd: true, lively: false };
      const atEnd = bytes.length < READ_BYTES;
      read += bytes.length;
      const taken = await this.#append(stream, bytes, final && atEnd);
      this.#endBytes[stream] = from + (this.log.isFull ? taken : bytes.length);
      if (atEnd) return { atEnd: true, lively: this.#endBytes[stream] !== before };
    }
    return { atEnd: this.log.isFull, lively: true };
  }

  /** Appends all of it that can be: the log takes as many lines at a time as it likes. */
  async #append(stream: LogStream, bytes: Uint8Array, final: boolean): Promise<number> {
    let taken = 0;
    while (taken < bytes.length) {
      const more = await this.log.append(stream, bytes.subarray(taken), final);
      if (more === 0) break;
      taken += more;
    }
    return taken;
  }
}
