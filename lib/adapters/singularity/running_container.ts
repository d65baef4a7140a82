import type { Clock } from "../../base/clock.ts";
import { messageOf } from "../../base/error.ts";
import type { Logger } from "../../base/log.ts";
import type { ContainerLog, LogStream } from "../../logs/container_log.ts";
import { FullLog } from "../../logs/full_log.ts";
import type { ContainerEnd } from "../../store/container_state.ts";
import { copyOutput, sizeOf } from "./output.ts";
import type { Node } from "./node.ts";

/** How late output and ends are seen when the kernel does not tell of them. */
const LOOK_INTERVAL_MS = 2_000;
/** So much output that is in the log may still take room on the disk. */
const COPIED_BYTES = 16 * 1024 * 1024;
/** Gives back the room of $2 bytes at the beginning of the file $1, which keeps its length (fallocate(2)). */
const GIVE_BACK = 'fallocate --punch-hole --offset 0 --length "$2" -- "$1" 2>/dev/null || true';
/** Between looks at a container that writes without pause. */
const SHORTEST_PAUSE_MS = 10;
/** Of a container whose end nobody saw, as other runtimes have it. */
const UNSEEN_EXIT_CODE = 255;

/** A container whose supervisor runs: its output goes into its log until its end is written down. */
export class RunningContainer {
  #changed = Promise.withResolvers<void>();
  readonly #over = new AbortController();
  readonly #givenBackBytes = { stdout: 0, stderr: 0 };
  /** Where attached clients are in the output: what they have not seen stays. */
  readonly #readers = new Set<Record<LogStream, number>>();
  readonly #fullLog: FullLog;
  #supervisorSeenAtMs: number;
  #end: ContainerEnd | undefined;
  #loop: Promise<void> | undefined;

  constructor(
    readonly id: string,
    /** What the paths of its files begin with; see supervise.pl. */
    readonly files: string,
    readonly log: ContainerLog,
    private readonly node: Node,
    private readonly clock: Clock,
    private readonly logger: Logger,
    /** Whether its program runs, which costs a process. */
    private readonly hasProgram: () => Promise<boolean>,
    /** Writes a line of our own into the log. */
    note: (message: string) => Promise<void>,
    private readonly ended: (end: ContainerEnd) => void,
  ) {
    this.#supervisorSeenAtMs = clock.now();
    this.#fullLog = new FullLog(log, clock, note);
  }

  /** Begins to look. */
  follow(): void {
    this.#loop ??= this.#follow();
  }

  /** One of its files has changed. */
  touch(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }

  /** Resolves at the next change of one of its files, taken before one looks at them. */
  get change(): Promise<void> {
    return this.#changed.promise;
  }

  /** Resolves with that change, when `signal` aborts, or after a while in any case. */
  async until(change: Promise<void>, signal: AbortSignal): Promise<void> {
    const over = new AbortController();
    const either = AbortSignal.any([signal, this.#over.signal, over.signal]);
    await Promise.race([change, this.clock.sleep(LOOK_INTERVAL_MS, either).catch(() => {})]);
    over.abort();
  }

  /** Keeps output from where the reader is, whose offsets it moves on; returns how to end that. */
  keepFor(reader: Record<LogStream, number>): () => void {
    this.#readers.add(reader);
    return () => this.#readers.delete(reader);
  }

  async close(): Promise<void> {
    this.#over.abort();
    await this.#loop;
    await this.log.close();
  }

  async #follow(): Promise<void> {
    const { signal } = this.#over;
    while (!signal.aborted) {
      const change = this.change;
      try {
        if (await this.#look()) return await this.log.close();
      } catch (error) {
        this.#sayUnwritten(error);
      }
      await this.until(change, signal);
      await this.clock.sleep(SHORTEST_PAUSE_MS, signal).catch(() => {});
    }
  }

  /** True when it has ended and all of its output is copied. */
  async #look(): Promise<boolean> {
    this.#end ??= await readEnd(this.files) ?? await this.#unseenEnd();
    const waits = await this.#copy();
    if (this.#end === undefined) {
      for (const stream of ["stdout", "stderr"] as const) await this.#giveBack(stream);
      return false;
    }
    if (waits) return false;
    this.ended(this.#end);
    this.touch();
    return true;
  }

  /** True while output is left that the log will take. One that cannot be written must not keep an end from being told. */
  async #copy(): Promise<boolean> {
    const final = this.#end !== undefined;
    try {
      await copyOutput(`${this.files}.stdout`, "stdout", this.log, final);
      await copyOutput(`${this.files}.stderr`, "stderr", this.log, final);
      return await this.#fullLog.waits(final, (stream) => this.#missingBytes(stream));
    } catch (error) {
      if (!final) throw error;
      this.#sayUnwritten(error);
      return false;
    }
  }

  /**
   * How it ended when its supervisor was killed, who alone would know; undefined while the program runs. That is looked
   * at now and then only.
   */
  async #unseenEnd(): Promise<ContainerEnd | undefined> {
    const now = this.clock.now();
    if (now - this.#supervisorSeenAtMs < LOOK_INTERVAL_MS) return undefined;
    this.#supervisorSeenAtMs = now;
    if (await isSupervised(this.files) || await this.hasProgram()) return undefined;
    // It writes the end down last.
    return await readEnd(this.files) ?? {
      finishedAtMs: now,
      exitCode: UNSEEN_EXIT_CODE,
      reason: "Unknown",
      message:
        "Nobody saw how it ended: the process that watched over it is gone, as after a reboot of the node.",
    };
  }

  async #missingBytes(stream: LogStream): Promise<number> {
    return await sizeOf(`${this.files}.${stream}`) - this.log.consumedBytes(stream);
  }

  #sayUnwritten(error: unknown): void {
    this.logger.warning("Cannot copy a container's output", {
      container: this.id,
      error: messageOf(error),
    });
  }

  /** Gives back the disk's room of what is in the log and was seen by everybody. */
  async #giveBack(stream: LogStream): Promise<void> {
    const seen = [...this.#readers].map((reader) => reader[stream]);
    const bytes = Math.min(this.log.consumedBytes(stream), ...seen);
    if (bytes - this.#givenBackBytes[stream] < COPIED_BYTES) return;
    await this.node.script("give back room", GIVE_BACK, [`${this.files}.${stream}`, String(bytes)]);
    this.#givenBackBytes[stream] = bytes;
  }
}

/** Whether the container's supervisor lives; see supervise.pl. */
export async function isSupervised(files: string): Promise<boolean> {
  try {
    using file = await Deno.open(`${files}.stdout`);
    return !await file.tryLock(false);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** How a container ended, as its supervisor wrote it down; undefined before. */
async function readEnd(files: string): Promise<ContainerEnd | undefined> {
  const path = `${files}.exit`;
  const text = await Deno.readTextFile(path).catch((error) => {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  });
  if (text === undefined) return undefined;
  const [, code = "255", killed = "0"] = /^(\d+) ([01])/.exec(text) ?? [];
  const { mtime } = await Deno.stat(path);
  const exitCode = Number(code);
  return {
    finishedAtMs: mtime?.getTime() ?? 0,
    exitCode,
    // As other runtimes call them.
    reason: killed === "1" ? "OOMKilled" : exitCode === 0 ? "Completed" : "Error",
    message: "",
  };
}
