import { CriError, messageOf } from "../../base/error.ts";
import type { Clock } from "../../base/clock.ts";
import type { RunResult } from "../../executors/executor.ts";
import type { ClusterSession } from "../../executors/ssh/session.ts";
import type { ByteQueue } from "../../streaming/byte_queue.ts";
import { stepScript } from "./step_script.ts";
import { type Frame, FrameReader } from "../steps/frames.ts";

/**
 * How long a step may take to begin, the wait for its turn included. The kubelet gives a probe two minutes beyond its
 * timeout, and would take the end of these for a failure of the probe.
 */
export const START_LIMIT_MS = 60_000;
/** How long the node looks for the program of a container that is starting. */
export const CONTAINER_WAIT_MS = 5_000;
/** What ran over its time is ended on the node; what takes longer than this is a cluster that is away. */
const END_LIMIT_MS = 15_000;
/** What Slurm says when the node has no perl. */
const NO_PERL = /execve\(\): perl: No such file/;
/** setTimeout knows no longer time: 24 days. */
const UNLIMITED_MS = 2 ** 31 - 1;

/** A Perl program for the node of a running job; `step.pl` tells how it is spoken to. */
export interface StepRequest {
  jobId: string;
  /** Slurm's name of the node the job's script runs on; without it Slurm is asked for the job's first. */
  host?: string;
  /** The account's name, for messages. */
  account: string;
  /** What it is for, as a part of sentences: "run a command in the container c1", "a command in the container c1". */
  purpose: { verb: string; noun: string };
  /** One of the `…_PROGRAM`s of step_programs.ts. */
  program: Uint8Array;
  nonce: string;
  /** The encoded request, with the nonce in it. */
  request: Uint8Array;
  /** Frames of input. They may end at any time; the step's stdin does not. Given back when it is to end. */
  input?: ByteQueue;
  /** From its first moment; 0: as long as it likes. */
  timeoutMs: number;
}

/** How a step ended of its own accord. */
export type StepEnd = Extract<Frame, { kind: "exited" | "timedOut" | "refused" }>;

/** As hex digits; nothing else on stdout can hold them by chance. */
export function newNonce(): string {
  return crypto.getRandomValues(new Uint8Array(16)).toHex();
}

/**
 * Runs a step of the job and resolves with how it ended. `take` gets every frame, and while a promise that it gives
 * is open nothing more is read. When `signal` aborts, what runs is killed first; it also is when this process or the
 * connection ends, because the other side sees its stdin end.
 *
 * @throws CriError FAILED_PRECONDITION when the node has no perl; UNAVAILABLE when it never began, so that trying
 * again is harmless; UNKNOWN when it did and nobody can tell how it ended. The signal's reason when it aborts.
 */
export function runStep(
  request: StepRequest,
  session: ClusterSession,
  clock: Clock,
  signal: AbortSignal,
  take: (frame: Frame) => void | Promise<void>,
): Promise<StepEnd> {
  return new RunningStep(request, session, clock, take).run(signal);
}

class RunningStep {
  readonly #started = Promise.withResolvers<void>();
  /** The remote stdin ends with this: what runs is to be killed. */
  readonly #letGo = Promise.withResolvers<void>();
  /** Cuts the connection's channel, when the other side does not end by itself. */
  readonly #cut = new AbortController();
  readonly #done = new AbortController();
  #begun = false;
  #last: Frame | undefined;
  #failure: unknown;

  constructor(
    private readonly request: StepRequest,
    private readonly session: ClusterSession,
    private readonly clock: Clock,
    private readonly take: (frame: Frame) => void | Promise<void>,
  ) {}

  async run(signal: AbortSignal): Promise<StepEnd> {
    const { jobId, host, nonce } = this.request;
    const arrived: Frame[] = [];
    const frames = new FrameReader(nonce, (frame) => arrived.push(frame));
    const onAbort = () => this.#end();
    signal.throwIfAborted();
    signal.addEventListener("abort", onAbort, { once: true });
    const guard = this.#guard();
    try {
      const result = await this.session.run(stepScript(jobId, host), {
        stdin: this.#stdin(),
        timeoutMs: UNLIMITED_MS,
        signal: this.#cut.signal,
        onStdout: (piece) => {
          if (this.#failure !== undefined) return;
          try {
            frames.add(piece);
            return this.#handOver(arrived.splice(0));
          } catch (error) {
            this.#fail(error);
          }
        },
      });
      signal.throwIfAborted();
      return this.#judge(result);
    } catch (error) {
      signal.throwIfAborted();
      if (this.#cut.signal.aborted) throw this.#unknown("its node does not answer");
      throw error;
    } finally {
      signal.removeEventListener("abort", onAbort);
      this.#release();
      this.#done.abort();
      await guard;
    }
  }

  async *#stdin(): AsyncGenerator<Uint8Array> {
    yield this.request.program;
    yield this.request.request;
    if (this.request.input !== undefined) yield* this.request.input;
    await this.#letGo.promise;
  }

  /** Gives frames on, one after the other; a promise only when somebody wants the rest to wait. */
  #handOver(frames: Frame[]): Promise<void> | undefined {
    for (const [index, frame] of frames.entries()) {
      this.#note(frame);
      const taken = this.take(frame);
      if (taken !== undefined) {
        return taken.then(
          () => this.#handOver(frames.slice(index + 1)),
          (error) => this.#fail(error),
        );
      }
    }
  }

  #note(frame: Frame): void {
    switch (frame.kind) {
      case "started":
        this.#begun = true;
        this.#started.resolve();
        return;
      case "exited":
      case "timedOut":
      case "refused":
      case "abandoned":
        this.#last = frame;
    }
  }

  #fail(error: unknown): void {
    this.#failure ??= error;
    this.#end();
  }

  /** Ends what the node does not begin in time, and what it does not end in time. */
  async #guard(): Promise<void> {
    const { timeoutMs } = this.request;
    const done = this.#done.signal;
    const startTimer = new AbortController();
    const tooLate = this.clock.sleep(START_LIMIT_MS, AbortSignal.any([done, startTimer.signal]));
    try {
      if (await Promise.race([tooLate.then(() => true), this.#started.promise])) return this.#end();
      startTimer.abort();
      await tooLate.catch(() => {});
      if (timeoutMs === 0) return;
      await this.clock.sleep(timeoutMs + END_LIMIT_MS, done);
      this.#end();
    } catch {
      // It ended before.
    }
  }

  /** Lets the other side kill what runs; if it does not do so in time, the channel is cut. */
  #end(): void {
    this.#release();
    this.clock.sleep(END_LIMIT_MS, this.#done.signal).then(() => this.#cut.abort(), () => {});
  }

  #release(): void {
    this.request.input?.return();
    this.#letGo.resolve();
  }

  #judge(result: RunResult): StepEnd {
    if (this.#failure !== undefined) throw this.#failure;
    const { jobId, host, purpose } = this.request;
    const last = this.#last;
    switch (last?.kind) {
      case "exited":
      case "timedOut":
      case "refused":
        return last;
      case "abandoned":
        throw this.#unknown("it did not begin or end in time and was killed");
    }
    const words = messageOf(new TextDecoder().decode(result.stderr)).slice(0, 1000);
    if (NO_PERL.test(words)) {
      throw new CriError(
        "FAILED_PRECONDITION",
        `Cannot ${purpose.verb}: it takes perl on the node ${
          host ?? `of the job ${jobId}`
        }, which has none.`,
      );
    }
    throw this.#unknown(`srun for the job ${jobId} ended with ${result.code}: ${words}`);
  }

  /** UNAVAILABLE when it never began, so that trying again is harmless. */
  #unknown(why: string): CriError {
    const { purpose, account } = this.request;
    return this.#begun
      ? new CriError("UNKNOWN", `Cannot tell how ${purpose.noun} on ${account} ended: ${why}.`)
      : new CriError("UNAVAILABLE", `Cannot ${purpose.verb} on ${account}: ${why}.`);
  }
}
