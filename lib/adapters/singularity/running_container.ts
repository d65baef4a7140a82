import type { Clock } from "../../base/clock.ts";
import { messageOf } from "../../base/error.ts";
import type { Logger } from "../../base/log.ts";
import type { ContainerLog } from "../../logs/container_log.ts";
import type { LogStream } from "../../logs/turns.ts";
import { FullLog } from "../../logs/full_log.ts";
import { UnwrittenLog } from "../../logs/unwritten_log.ts";
import { type ContainerEnd, START_ERROR_REASON } from "../../store/container_state.ts";
import { Output } from "./output.ts";
import type { Node } from "./node.ts";
import type { Programs } from "./programs.ts";
import { startFailure } from "./supervisor.ts";

/** How late output and ends are seen when the kernel does not tell of them. */
const LOOK_INTERVAL_MS = 2_000;
/** So much output that is in the log may still take room on the disk. */
const COPIED_BYTES = 16 * 1024 * 1024;
/** Gives back the room of $2 bytes at the beginning of the file $1, which keeps its length (fallocate(2)). */
const GIVE_BACK = 'fallocate --punch-hole --offset 0 --length "$2" -- "$1" 2>/dev/null || true';
/** Between looks at a container that writes without pause. */
const SHORTEST_PAUSE_MS = 10;
/** A start that is given up is over at once, unless it succeeded just then. */
const GIVE_UP_WAIT_MS = 1_000;
/** What was killed is gone at once, unless the kernel holds a process of it. */
const KILLED_WAIT_MS = 10_000;
const GIVE_UP_LOOK_MS = 20;
/** Of a container whose end nobody saw, as other runtimes have it. */
const UNSEEN_EXIT_CODE = 255;
/** Of one that SIGKILL ended. */
export const KILLED_EXIT_CODE = 137;

/**
 * A container whose supervisor runs: its output goes into its log until its end is written down, and longer where the
 * log could not be written until then.
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
  #isLookFailing = false;
  #isEndTold: boolean;
  #isKilled = false;
  #loop: Promise<void> | undefined;

  constructor(
    readonly id: string,
    /** What the paths of its files begin with; see supervise.pl. */
    readonly files: string,
    readonly log: ContainerLog,
    private readonly node: Node,
    private readonly clock: Clock,
    private readonly logger: Logger,
    /** What is done with its program when nobody watches over it; each costs a process. */
    private readonly programs: Pick<Programs, "isRunning" | "kill">,
    /** Writes a line of our own into the log. */
    note: (message: string) => Promise<void>,
    private readonly ended: (end: ContainerEnd) => void,
    /** Whether its end is known to everybody, and only output is left. */
    isEndTold = false,
  ) {
    this.#isEndTold = isEndTold;
    this.#output = new Output(files, log);
    this.#unwritten = new UnwrittenLog(id, log.path, logger, clock);
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

  /** How much of a stream is not in its log. */
  missingBytes(stream: LogStream): Promise<number> {
    return this.#output.missingBytes(stream);
  }

  /** Whether a kill of ours explains its end. */
  get isKilled(): boolean {
    return this.#isKilled;
  }

  /** Its program is about to be killed: should nobody see its end, that is how it ended. */
  expectKill(): void {
    this.#isKilled = true;
  }

  /** Looks no more, for good: what its log does not take now is lost, which is said. */
  async giveUp(): Promise<void> {
    await this.close();
    if (!this.#unwritten.isUnwritten) return;
    const isLeft = await this.#copy(true);
    await this.log.close();
    if (!isLeft) return;
    this.#unwritten.lost(await this.missingBytes("stdout"), await this.missingBytes("stderr"));
  }

  async #follow(): Promise<void> {
    const { signal } = this.#over;
    while (!signal.aborted) {
      const change = this.change;
      try {
        if (await this.#look()) return await this.log.close();
        this.#isLookFailing = false;
      } catch (error) {
        this.#sayFailed(error);
      }
      await this.until(change, signal);
      await this.clock.sleep(SHORTEST_PAUSE_MS, signal).catch(() => {});
    }
  }

  /** Once until a look succeeds. */
  #sayFailed(error: unknown): void {
    if (this.#isLookFailing) return;
    this.#isLookFailing = true;
    this.logger.warning("Cannot look after a container; it is tried again", {
      container: this.id,
      error: messageOf(error),
    });
  }

  /** True when it has ended and all of its output is copied that its log will take. */
  async #look(): Promise<boolean> {
    const isNew = this.#end === undefined;
    this.#end ??= await readEnd(this.id, this.files) ?? await this.#unseenEnd();
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
      const waits = await this.#fullLog.waits(final, (stream) => this.missingBytes(stream));
      this.#unwritten.written();
      return waits;
    } catch (error) {
      this.#unwritten.failed(error);
      return true;
    }
  }

  /**
   * How it ended when its supervisor was killed, who alone would know; undefined before. That is looked at now and then
   * only. A program that goes on is killed, as with other runtimes: nobody would have its output.
   */
  async #unseenEnd(): Promise<ContainerEnd | undefined> {
    const now = this.clock.now();
    if (now - this.#supervisorSeenAtMs < LOOK_INTERVAL_MS) return undefined;
    this.#supervisorSeenAtMs = now;
    if (await isSupervised(this.files)) return undefined;
    // It writes the end down last.
    const end = await readEnd(this.id, this.files);
    if (end !== undefined) return end;
    if (await this.programs.isRunning(this.id)) {
      this.expectKill();
      await this.programs.kill(this.id);
      return undefined;
    }
    if (this.#isKilled) {
      return {
        finishedAtMs: now,
        exitCode: KILLED_EXIT_CODE,
        reason: "Error",
        message: "Nobody watched over it any more, and it was killed.",
      };
    }
    return {
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

/**
 * Waits until the supervisor of a start that failed has ended what it had begun, or cannot. One whose start succeeded
 * as it was given up does not know of that: then its program is killed.
 */
export async function endFailedStart(
  files: string,
  clock: Clock,
  kill: () => Promise<void>,
): Promise<void> {
  if (!await isSupervisedFor(GIVE_UP_WAIT_MS, files, clock)) return;
  await kill();
  await isSupervisedFor(KILLED_WAIT_MS, files, clock);
}

/** Whether the container's supervisor lives longer than that. */
async function isSupervisedFor(ms: number, files: string, clock: Clock): Promise<boolean> {
  const untilMs = clock.now() + ms;
  while (await isSupervised(files)) {
    if (clock.now() >= untilMs) return true;
    await clock.sleep(GIVE_UP_LOOK_MS);
  }
  return false;
}

/** Whether its supervisor has seen its end, and so removed what crun and the kernel knew of it. */
export async function endedInOrder(id: string, files: string): Promise<boolean> {
  const end = await readEnd(id, files);
  return end !== undefined && end.reason !== START_ERROR_REASON;
}

/** How a container ended, as its supervisor wrote it down; undefined before. */
async function readEnd(id: string, files: string): Promise<ContainerEnd | undefined> {
  const path = `${files}.exit`;
  const text = await Deno.readTextFile(path).catch((error) => {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  });
  if (text === undefined) return undefined;
  const [, code = "255", killed = "0", why] = /^(\d+) ([01])(?: (.*))?$/s.exec(text) ?? [];
  const { mtime } = await Deno.stat(path);
  const exitCode = Number(code);
  const finishedAtMs = mtime?.getTime() ?? 0;
  if (why !== undefined) {
    return { finishedAtMs, exitCode, reason: START_ERROR_REASON, message: startFailure(id, why) };
  }
  return {
    finishedAtMs,
    exitCode,
    // As other runtimes call them.
    reason: killed === "1" ? "OOMKilled" : exitCode === 0 ? "Completed" : "Error",
    message: "",
  };
}
