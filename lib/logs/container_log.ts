import { Mutex } from "async-mutex";
import { dirname, join } from "@std/path";
import type { Clock } from "../base/clock.ts";
import { CriError, messageOf } from "../base/error.ts";
import type { LogPositionRecord } from "../store/records.ts";
import type { Table } from "../store/table.ts";
import { formatLines } from "./cri_lines.ts";

export type LogStream = "stdout" | "stderr";

const LOG_MODE = 0o640;

/** Lines of our own begin like this, on the stderr stream. */
const NOTE_PREFIX = "multicri: ";

/**
 * The log file of one container, in the CRI format, written exactly once across crashes: each append is
 * followed by a record of how much of the program's output it covers and how long the file then is, and
 * `open` cuts off what a crash left beyond that.
 */
export class ContainerLog {
  readonly #id: string;
  readonly #path: string;
  readonly #positions: Table<LogPositionRecord>;
  readonly #clock: Clock;
  readonly #turn = new Mutex();
  readonly #maxFileBytes: number;
  #file: Deno.FsFile | undefined;
  #position: LogPositionRecord;

  /**
   * `path` is absolute; empty means that the client wants no log. A file that has reached `maxFileBytes` takes no
   * more output until `reopen`.
   */
  constructor(
    id: string,
    path: string,
    positions: Table<LogPositionRecord>,
    clock: Clock,
    maxFileBytes = Infinity,
  ) {
    this.#maxFileBytes = maxFileBytes;
    this.#id = id;
    this.#path = path;
    this.#positions = positions;
    this.#clock = clock;
    this.#position = positions.get(id) ??
      { id, stdoutBytes: 0, stderrBytes: 0, fileBytes: 0, fileInode: 0 };
  }

  /** Bytes of the program's output on `stream` that are in the log. */
  consumedBytes(stream: LogStream): number {
    return stream === "stdout" ? this.#position.stdoutBytes : this.#position.stderrBytes;
  }

  /** Whether the file has reached its bound. */
  get isFull(): boolean {
    return this.#path !== "" && this.#position.fileBytes >= this.#maxFileBytes;
  }

  /**
   * Makes sure that the log can be written, before there is anything to write.
   * @throws CriError FAILED_PRECONDITION with the path and the reason.
   */
  prepare(): Promise<void> {
    return this.#turn.runExclusive(async () => {
      if (this.#path === "" || this.#file !== undefined) return;
      await this.#open().catch((error) => {
        throw new CriError(
          "FAILED_PRECONDITION",
          `Cannot write the container's log ${this.#path}: ${messageOf(error)}.`,
          { cause: error },
        );
      });
    });
  }

  /**
   * Appends what came next on `stream`: whole lines, pieces of very long ones, and with `final` also an
   * unfinished last line. Returns how many of the bytes were taken: none when the file is full.
   */
  append(stream: LogStream, bytes: Uint8Array, final: boolean): Promise<number> {
    return this.#turn.runExclusive(async () => {
      if (this.isFull) return 0;
      const { text, takenBytes } = formatLines(bytes, stream, this.#now(), final);
      if (takenBytes === 0) return 0;
      await this.#write(text, {
        ...this.#position,
        stdoutBytes: this.#position.stdoutBytes + (stream === "stdout" ? takenBytes : 0),
        stderrBytes: this.#position.stderrBytes + (stream === "stderr" ? takenBytes : 0),
      });
      return takenBytes;
    });
  }

  /** Appends a line of our own. */
  note(message: string): Promise<void> {
    return this.#turn.runExclusive(async () => {
      const line = new TextEncoder().encode(
        `${NOTE_PREFIX}${message.replaceAll(/\s*\n\s*/g, "; ")}\n`,
      );
      await this.#write(formatLines(line, "stderr", this.#now(), true).text, this.#position);
    });
  }

  /** Continues in a new file at the same path; the old one was renamed away (ReopenContainerLog). */
  reopen(): Promise<void> {
    return this.#turn.runExclusive(async () => {
      this.#file?.close();
      this.#file = undefined;
      await this.#open();
    });
  }

  close(): Promise<void> {
    return this.#turn.runExclusive(() => {
      this.#file?.close();
      this.#file = undefined;
    });
  }

  async #write(text: Uint8Array, position: LogPositionRecord): Promise<void> {
    if (this.#path !== "") {
      const file = this.#file ?? await this.#open();
      try {
        for (let at = 0; at < text.length;) at += await file.write(text.subarray(at));
      } catch (error) {
        // A full disk takes part of the text; the next try must not continue in the middle of a line.
        await file.truncate(this.#position.fileBytes);
        throw error;
      }
      position = {
        ...position,
        fileBytes: this.#position.fileBytes + text.length,
        fileInode: this.#position.fileInode,
      };
    }
    this.#position = position;
    this.#positions.put(position);
  }

  async #open(): Promise<Deno.FsFile> {
    await Deno.mkdir(dirname(this.#path), { recursive: true });
    const file = await Deno.open(this.#path, { append: true, create: true });
    try {
      // Whatever the umask: log shippers read by group, as with other runtimes.
      await Deno.chmod(this.#path, LOG_MODE);
      const { size, ino } = await file.stat();
      const { fileBytes, fileInode } = this.#position;
      const ours = ino === fileInode;
      if (!ours && fileInode !== 0) await this.#cutRotated();
      if (ours && size > fileBytes) await file.truncate(fileBytes);
      this.#position = {
        ...this.#position,
        fileInode: ino ?? 0,
        fileBytes: ours ? Math.min(size, fileBytes) : size,
      };
      // Recorded before the first append, so that a crash after it is seen as one.
      this.#positions.put(this.#position);
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
    const directory = dirname(this.#path);
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
