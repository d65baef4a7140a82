import { Mutex } from "async-mutex";
import { concat } from "@std/bytes/concat";
import { messageOf } from "../../base/error.ts";
import type { Clock } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import type { LogStream } from "../../logs/turns.ts";
import type { ClusterAccount } from "./account.ts";
import { encodeFields, type Frame } from "../steps/frames.ts";
import { FOLLOW_PROGRAM } from "./step_programs.ts";
import type { OutputFollower } from "./follow.ts";
import { newNonce, runStep } from "./step.ts";

/** Pause before the next step when one has ended: the job may have ended with it. */
const RETRY_MS = 5_000;
/** It doubles up to this while none begins, as on nodes without perl: each try costs Slurm a step. */
const MAX_RETRY_MS = 60_000;
/** How often it is looked whether a full log was rotated. */
const FULL_LOG_MS = 500;

/** A job that is to be followed. */
export interface FollowedJob {
  readonly containerId: string;
  readonly directory: string;
  readonly jobId: string;
  readonly output: OutputFollower;
  /** Set when the step tells of its status files. */
  hasNews?: boolean;
}

/**
 * Follows one job by a step on its node (`follow.pl`): its status files and its output, both as the node itself sees
 * them. What comes to the log goes through the `OutputFollower` that reads the files over sftp, so each may go on where
 * the other ended, and does when there is no step: before its turn, after an error, at the end.
 */
export class NodeFollower {
  readonly #stop = new AbortController();
  /** Resolves when nothing of it is left; a node that does not answer is waited for some seconds after `stop`. */
  readonly ended: Promise<void>;
  /** One piece at a time: a piece and the end of the file before it are joined. */
  readonly #turn = new Mutex();
  #status: { start?: Uint8Array; exit?: Uint8Array } = {};
  #held: Record<LogStream, { atBytes: number; bytes: Uint8Array }> = emptyHeld({
    stdout: 0,
    stderr: 0,
  });
  #live = false;
  #lively = false;
  #saidWhy = false;

  constructor(
    private readonly job: FollowedJob,
    private readonly account: ClusterAccount,
    private readonly clock: Clock,
    private readonly log: Logger,
  ) {
    this.ended = this.#run();
  }

  /** Whether a step is at work, so that nobody else need look at the files. */
  get live(): boolean {
    return this.#live;
  }

  /** A status file as the node saw it last; undefined when the step has not told of one. */
  status(name: "start" | "exit"): Uint8Array | undefined {
    return this.#status[name];
  }

  /** Whether output came since this was asked last. */
  takeLively(): boolean {
    const lively = this.#lively;
    this.#lively = false;
    return lively;
  }

  /** Copies the unfinished last lines of a program that has ended, if all that it wrote has come. */
  async finish(): Promise<void> {
    if (this.#status.exit === undefined) return;
    for (const stream of ["stdout", "stderr"] as const) await this.#pass(stream, true);
  }

  /** Lets the step end; when it resolves nothing more is copied. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#turn.waitForUnlock();
  }

  async #run(): Promise<void> {
    const signal = this.#stop.signal;
    let pauseMs = RETRY_MS;
    while (!signal.aborted) {
      try {
        await this.#follow(signal);
      } catch (error) {
        if (!signal.aborted && !this.#saidWhy) {
          this.#saidWhy = true;
          this.log.info("Cannot follow a job on its node; its files are followed meanwhile", {
            container: this.job.containerId,
            error: messageOf(error),
          });
        }
      }
      if (this.#live) pauseMs = RETRY_MS;
      this.#live = false;
      await this.clock.sleep(pauseMs, signal).catch(() => {});
      pauseMs = Math.min(pauseMs * 2, MAX_RETRY_MS);
    }
  }

  async #follow(signal: AbortSignal): Promise<void> {
    const { containerId, directory, jobId, output } = this.job;
    await this.account.lines.run("follow", async (session) => {
      const from = output.consumed();
      this.#held = emptyHeld(from);
      const nonce = newNonce();
      await runStep(
        {
          jobId,
          account: this.account.name,
          purpose: {
            verb: `follow the job of the container ${containerId}`,
            noun: `following the job of the container ${containerId}`,
          },
          program: FOLLOW_PROGRAM,
          nonce,
          request: encodeFields([nonce, directory, from.stdout, from.stderr]),
          timeoutMs: 0,
        },
        session,
        this.clock,
        signal,
        (frame) => this.#take(frame),
      );
    }, signal);
  }

  #take(frame: Frame): Promise<void> | undefined {
    switch (frame.kind) {
      case "started":
        this.#live = true;
        return;
      case "status":
        this.#status = {
          ...(frame.start.length > 0 ? { start: frame.start } : {}),
          ...(frame.exit.length > 0 ? { exit: frame.exit } : {}),
        };
        this.job.hasNews = true;
        return;
      case "stdout":
      case "stderr":
        return this.#hold(frame.kind, frame.bytes);
    }
  }

  /** Passes a piece on; while the log is full nothing more is read, and the node holds the rest. */
  async #hold(stream: LogStream, piece: Uint8Array): Promise<void> {
    this.#lively = true;
    const { atBytes, bytes } = this.#held[stream];
    this.#held[stream] = { atBytes, bytes: concat([bytes, piece]) };
    while (!this.#stop.signal.aborted && !await this.#pass(stream, false)) {
      await this.clock.sleep(FULL_LOG_MS, this.#stop.signal).catch(() => {});
    }
  }

  /** False when the log is full. */
  #pass(stream: LogStream, final: boolean): Promise<boolean> {
    return this.#turn.runExclusive(async () => {
      if (this.#stop.signal.aborted) return true;
      const { atBytes, bytes } = this.#held[stream];
      const consumed = await this.job.output.push(stream, atBytes, bytes, final);
      // Who read the files may have come further than what is held.
      const gone = Math.min(consumed - atBytes, bytes.length);
      this.#held[stream] = { atBytes: atBytes + gone, bytes: bytes.subarray(gone) };
      return !this.job.output.isFull;
    });
  }
}

function emptyHeld(
  from: Record<LogStream, number>,
): Record<LogStream, { atBytes: number; bytes: Uint8Array }> {
  const at = (atBytes: number) => ({ atBytes, bytes: new Uint8Array() });
  return { stdout: at(from.stdout), stderr: at(from.stderr) };
}
