import type { Clock } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import type { ContainerLog } from "../../logs/container_log.ts";
import type { LogStream } from "../../logs/turns.ts";
import { FullLog } from "../../logs/full_log.ts";
import { UnwrittenLog } from "../../logs/unwritten_log.ts";
import type { ContainerEnd } from "../../store/container_state.ts";
import { Output } from "./output.ts";
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

/**
 * A container whose supervisor runs: its output goes into its log until its end is written down, and longer where the log
 * could not be written until then.
 */
export class RunningContainer {
  #changed = Promise.withResolvers<void>();
  readonly #over = new AbortController();
  readonly #output: Output;
  readonly #givenBackBytes = { stdout: 0, stderr: 0, turns: 0 };
  /** Where attached clients are in the output: what they have not seen stays. */
  readonly #readers = new Set<Record<LogStream, number>>();
  readonly #fullLog: FullLog;
  readonly #unwritten: UnwrittenLog;
  #supervisorSeenAtMs: number;
  #end: ContainerEnd | undefined;
  #isEndTold: boolean;
  #loop: Promise<void> | undefined;

  constructor(
    readonly id: string,
    /** What the paths of its files begin with; see supervise.pl. */
    readonly files: string,
    readonly log: ContainerLog,
    private readonly node: Node,
    private readonly clock: Clock,
    logger: Logger,
    /** Whether its program runs, which costs a process. */
    private readonly hasProgram: () => Promise<boolean>,
    /** Writes a line of our own into the log. */
    note: (message: string) => Promise<void>,
    private readonly ended: (end: ContainerEnd) => void,
    /** Whether its end is known to everybody, and only output is left. */
    isEndTold = false,
  ) {
    this.#isEndTold = isEndTold;
    this.#output = new Output(files, log);
    this.#unwritten = new UnwrittenLog(id, logger, clock);
    this.#supervisorSeenAtMs = clock.now();
    this.#fullLog = new FullLog(log, clock, note);
  }

  /** Looks until it has ended and all of its output is in its log, or it is closed. */
  async follow(): Promise<void> {
    await (this.#loop ??= this.#follow());
  }

  /** Whether its end was told, so that at most output is left to copy. */
  get hasEnded(): boolean {
    return this.#isEndTold;
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

  /** Looks no more, for good: what its log does not take now is lost, which is said. */
  async giveUp(): Promise<void> {
    await this.close();
    if (!this.#unwritten.isUnwritten) return;
    const isLeft = await this.#copy(true);
    await this.log.close();
    if (!isLeft) return;
    this.#unwritten.lost(
      await this.#output.missingBytes("stdout"),
      await this.#output.missingBytes("stderr"),
    );
  }

  async #follow(): Promise<void> {
    const { signal } = this.#over;
    while (!signal.aborted) {
      const change = this.change;
      try {
        if (await this.#look()) return await this.log.close();
      } catch (error) {
        this.#unwritten.failed(error);
      }
      await this.until(change, signal);
      await this.clock.sleep(SHORTEST_PAUSE_MS, signal).catch(() => {});
    }
  }

  /** True when it has ended and all of its output is copied that its log will take. */
  async #look(): Promise<boolean> {
    const isNew = this.#end === undefined;
    this.#end ??= await readEnd(this.files) ?? await this.#unseenEnd();
    const isLeft = await this.#copy(isNew && this.#end !== undefined);
    if (this.#end === undefined) {
      for (const kind of ["stdout", "stderr", "turns"] as const) await this.#giveBack(kind);
      return false;
    }
    // An end is not kept from being told by a log that cannot be written.
    if (isLeft && !this.#unwritten.isUnwritten) return false;
    if (!this.#isEndTold) {
      this.#isEndTold = true;
      this.ended(this.#end);
      this.touch();
    }
    return !isLeft;
  }

  /** True while output is left that the log will take. `now`: also when that was tried in vain a moment ago. */
  async #copy(now: boolean): Promise<boolean> {
    if (!now && this.#unwritten.rests) return true;
    const final = this.#end !== undefined;
    try {
      await this.#output.copy(final);
      const waits = await this.#fullLog.waits(
        final,
        (stream) => this.#output.missingBytes(stream),
      );
      this.#unwritten.written();
      return waits;
    } catch (error) {
      this.#unwritten.failed(error);
      return true;
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

  /** Gives back the disk's room of what is in the log and was seen by everybody. */
  async #giveBack(kind: LogStream | "turns"): Promise<void> {
    const seen = kind === "turns" ? [] : [...this.#readers].map((reader) => reader[kind]);
    const bytes = Math.min(this.#output.copiedBytes(kind), ...seen);
    if (bytes - this.#givenBackBytes[kind] < COPIED_BYTES) return;
    await this.node.script("give back room", GIVE_BACK, [`${this.files}.${kind}`, String(bytes)]);
    this.#givenBackBytes[kind] = bytes;
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
