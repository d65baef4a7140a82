import { Mutex } from "async-mutex";
import { dirname, join } from "@std/path";
import type { Clock } from "../base/clock.ts";
import { CriError, messageOf } from "../base/error.ts";
import type { LogPositionRecord } from "../store/records.ts";
import type { Table } from "../store/table.ts";
import { makeFoldersOf, refuseWayOut } from "./log_path.ts";
import { type Extent, formatTurns, type LogStream, type LogText, type Turn } from "./turns.ts";

const LOG_MODE = 0o640;

/** Lines of our own begin like this, on the stderr stream. */
const NOTE_PREFIX = "multicri: ";

/**
 * The log file of one container, in the CRI format, written exactly once across crashes: each append is
 * followed by a record of how much of the program's output it covers and how long the file then is, and
 * `open` cuts off what a crash left beyond that.
 */
export class ContainerLog {
  readonly #positions: Table<LogPositionRecord>;
  readonly #clock: Clock;
  readonly #turn = new Mutex();
  readonly #maxFileBytes: number;
  readonly #podLogsDir: string | undefined;
  #file: Deno.FsFile | undefined;
  #position: LogPositionRecord;
  /** The last that the records' disk had room for; counts while the one above waits for room. */
  #written: LogPositionRecord;

  /**
   * `path` is absolute; empty means that the client wants no log. A file that has reached `maxFileBytes` takes no
   * more output until `reopen`. No link leads the file out of `podLogsDir`.
   */
  constructor(
    id: string,
    readonly path: string,
    positions: Table<LogPositionRecord>,
    clock: Clock,
    maxFileBytes = Infinity,
    podLogsDir?: string,
  ) {
    this.#podLogsDir = podLogsDir;
    this.#maxFileBytes = maxFileBytes;
    this.#positions = positions;
    this.#clock = clock;
    const beginning = { id, stdoutBytes: 0, stderrBytes: 0, fileBytes: 0, fileInode: 0 };
    this.#position = positions.get(id) ?? beginning;
    this.#written = beginning;
  }

  /** Bytes of the program's output on `stream` that are in the log. */
  consumedBytes(stream: LogStream): number {
    return consumed(this.#position, stream);
  }

  /** How many of them are not asked for again even if the server dies now. */
  safeBytes(stream: LogStream): number {
    return consumed(this.isSafe ? this.#position : this.#written, stream);
  }

  /** Whether those are all. */
  get isSafe(): boolean {
    return this.#positions.isWritten(this.#position.id);
  }

  /** Whether the file has reached its bound. */
  get isFull(): boolean {
    return this.path !== "" && this.#position.fileBytes >= this.#maxFileBytes;
  }

  /**
   * Makes sure that the log can be written, before there is anything to write.
   * @throws CriError FAILED_PRECONDITION with the path and the reason.
   */
  prepare(): Promise<void> {
    return this.#turn.runExclusive(async () => {
      if (this.#file === undefined) await this.#openFor("Cannot write the container's log");
    });
  }

  /**
   * Appends what came next on `stream`: whole lines, pieces of very long ones, and with `final` also an
   * unfinished last line. Returns how many of the bytes were taken: none when the file is full, and those of the whole
   * lines that fit when the disk is.
   * @throws Error when not even one line can be written; the next call tries anew, with an opened file.
   */
  async append(stream: LogStream, bytes: Uint8Array, final: boolean): Promise<number> {
    const output = { stdout: bytes, stderr: bytes };
    return (await this.appendTurns(output, [{ stream, until: bytes.length, final }]))[stream];
  }

  /** The same for what came next on both streams, in the order in which it came. */
  appendTurns(
    output: Readonly<Record<LogStream, Uint8Array>>,
    turns: Iterable<Turn>,
  ): Promise<Record<LogStream, number>> {
    return this.#turn.runExclusive(async () => {
      const none = { stdout: 0, stderr: 0 };
      if (this.isFull) return none;
      const lines = formatTurns(output, turns, this.#now());
      if (lines.extent.textBytes === 0) return none;
      const { textBytes, taken } = await this.#write(lines);
      this.#record(textBytes, taken);
      return taken;
    });
  }

  /** Appends a line of our own. */
  note(message: string): Promise<void> {
    return this.#turn.runExclusive(async () => {
      const line = new TextEncoder().encode(
        `${NOTE_PREFIX}${message.replaceAll(/\s*\n\s*/g, "; ")}\n`,
      );
      const turn: Turn = { stream: "stderr", until: line.length, final: true };
      const { textBytes } = await this.#write(
        formatTurns({ stdout: line, stderr: line }, [turn], this.#now()),
      );
      this.#record(textBytes, { stdout: 0, stderr: 0 });
    });
  }

  /**
   * Continues in a new file at the same path; the old one was renamed away (ReopenContainerLog).
   * @throws CriError as `prepare`.
   */
  reopen(): Promise<void> {
    return this.#turn.runExclusive(async () => {
      this.#close();
      await this.#openFor("Cannot go on with the container's log in a new file");
    });
  }

  close(): Promise<void> {
    return this.#turn.runExclusive(() => this.#close());
  }

  #close(): void {
    this.#file?.close();
    this.#file = undefined;
  }

  /**
   * Notes that so much was appended, which holds so much of the output. The records' disk may be full: what is not
   * noted is cut off and read again after a crash.
   */
  #record(textBytes: number, taken: Record<LogStream, number>): void {
    if (this.isSafe) this.#written = this.#position;
    const position = {
      ...this.#position,
      stdoutBytes: this.#position.stdoutBytes + taken.stdout,
      stderrBytes: this.#position.stderrBytes + taken.stderr,
      fileBytes: this.#position.fileBytes + (this.path === "" ? 0 : textBytes),
    };
    try {
      this.#positions.putSettled(position);
    } catch (error) {
      // Opening the file cuts off what does not count.
      this.#close();
      throw error;
    }
    this.#position = position;
  }

  /** Appends whole lines to the file, as many as the disk takes. @throws Error when it takes none. */
  async #write({ text, extent, within }: LogText): Promise<Extent> {
    if (this.path === "") return extent;
    // What is written into a file that somebody removed is seen by nobody.
    if ((await this.#file?.stat())?.nlink === 0) this.#close();
    const file = this.#file ?? await this.#open();
    let at = 0;
    try {
      while (at < text.length) at += await file.write(text.subarray(at));
      return extent;
    } catch (error) {
      const fitting = within(at);
      // A full disk takes part of a line, which nobody may see. Where that cannot be cut off now, opening the file does
      // it.
      await file.truncate(this.#position.fileBytes + fitting.textBytes).catch(() => {});
      this.#close();
      if (fitting.textBytes === 0) throw error;
      return fitting;
    }
  }

  /** Opens the file for a client that gets a sentence when that is impossible. */
  async #openFor(failure: string): Promise<void> {
    if (this.path === "") return;
    await this.#open().catch((error) => {
      throw new CriError("FAILED_PRECONDITION", `${failure} ${this.path}: ${messageOf(error)}.`, {
        cause: error,
      });
    });
  }

  async #open(): Promise<Deno.FsFile> {
    if (this.#podLogsDir !== undefined) await refuseWayOut(this.path, this.#podLogsDir);
    await makeFoldersOf(this.path, this.#podLogsDir);
    const file = await Deno.open(this.path, { append: true, create: true });
    try {
      // Whatever the umask: log shippers read by group, as with other runtimes.
      await Deno.chmod(this.path, LOG_MODE);
      const { size, ino } = await file.stat();
      const { fileBytes, fileInode } = this.#position;
      const ours = ino === fileInode;
      if (!ours && fileInode !== 0) await this.#cutRotated();
      if (ours && size > fileBytes) await file.truncate(fileBytes);
      if (!ours || size < fileBytes) {
        const position = { ...this.#position, fileInode: ino ?? 0, fileBytes: size };
        // Recorded before the first append, so that a crash after it is seen as one.
        this.#positions.put(position);
        this.#position = position;
      }
    } catch (error) {
      file.close();
      throw error;
    }
    this.#file = file;
    return file;
  }

  /** Cuts off what a crash left unrecorded in a log that was renamed away just before it. */
  async #cutRotated(): Promise<void> {
    const { fileBytes, fileInode } = this.#position;
    const directory = dirname(this.path);
    for await (const { name, isFile } of Deno.readDir(directory)) {
      const path = join(directory, name);
      // Others remove old logs meanwhile.
      const found = isFile ? await Deno.stat(path).catch(() => undefined) : undefined;
      if (found?.ino === fileInode && found.size > fileBytes) await Deno.truncate(path, fileBytes);
    }
  }

  #now(): string {
    return new Date(this.#clock.now()).toISOString();
  }
}

function consumed(position: LogPositionRecord, stream: LogStream): number {
  return stream === "stdout" ? position.stdoutBytes : position.stderrBytes;
}
