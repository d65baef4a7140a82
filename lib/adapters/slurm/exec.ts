import { concat } from "@std/bytes/concat";
import { CriError, messageOf } from "../../base/error.ts";
import type { Clock } from "../../base/clock.ts";
import type { RunResult } from "../../executors/executor.ts";
import type { ExecResult } from "../adapter.ts";
import type { ClusterAccount } from "./account.ts";
import { MAX_EXECS_AT_ONCE } from "./exec_turns.ts";
import { execScript } from "./cluster_scripts.ts";
import {
  encodeRequest,
  type EnterRequest,
  type Frame,
  FrameReader,
  PROGRAM,
} from "./exec_frames.ts";

/**
 * Bound on stdout and stderr together. The kubelet takes answers of 16 MiB (cri-client, utils.go); what is
 * beyond is dropped, as containerd and CRI-O do, and the margin is for the rest of the message.
 */
export const MAX_EXEC_OUTPUT_BYTES = 16 * 1024 * 1024 - 64 * 1024;
/**
 * How long a command may take to begin, the wait for its turn included. The kubelet gives a probe two minutes
 * beyond its timeout, and would take the end of these for a failure of the probe.
 */
const START_LIMIT_MS = 60_000;
/** How long the node looks for the program of a container that is starting. */
const CONTAINER_WAIT_MS = 5_000;
/** A command that ran over its time is ended on the node; what takes longer than this is a cluster that is away. */
const END_LIMIT_MS = 15_000;
/** What Slurm says when the node has no perl. */
const NO_PERL = /execve\(\): perl: No such file/;
/** setTimeout knows no longer time: 24 days. */
const UNLIMITED_MS = 2 ** 31 - 1;

/** One command for a container whose job runs. */
export interface ExecRequest {
  containerId: string;
  jobId: string;
  /** Slurm's name of the node the job's script runs on. */
  host: string;
  directory: string;
  workingDirectory: string;
  argv: readonly string[];
  /** From the command's first moment; 0: as long as it likes. */
  timeoutMs: number;
}

/** The container's program is not there yet: trying again helps. */
export class ContainerStarting extends Error {
  override readonly name = "ContainerStarting";
}

/**
 * Runs a command in a container by a step of its job (`enter_container.pl` tells how), and resolves when it
 * ended. When `signal` aborts it is killed first; it also is when this process or the connection ends,
 * because the other side sees its stdin end.
 *
 * @throws ContainerStarting; CriError DEADLINE_EXCEEDED when the command ran longer than it may, and was
 * killed; INVALID_ARGUMENT when the image has no such command; FAILED_PRECONDITION when the node or the
 * container does not allow it; UNAVAILABLE when nobody can tell now. The signal's reason when it aborts.
 */
export async function execInJob(
  request: ExecRequest,
  account: ClusterAccount,
  clock: Clock,
  signal: AbortSignal,
): Promise<ExecResult> {
  const over = new AbortController();
  const either = AbortSignal.any([signal, over.signal]);
  const limited = request.timeoutMs > 0;
  const waited = new AbortController();
  if (limited) {
    clock.sleep(START_LIMIT_MS, AbortSignal.any([signal, waited.signal])).then(
      () => over.abort(tooBusy(request, account)),
      () => {},
    );
  }
  return await account.execTurns.run(limited, () => {
    waited.abort();
    return new RunningExec(request, account, clock).run(signal);
  }, either).finally(() => waited.abort());
}

class RunningExec {
  readonly #stdout: Uint8Array[] = [];
  readonly #stderr: Uint8Array[] = [];
  readonly #started = Promise.withResolvers<void>();
  /** The remote stdin ends with this: the command is to be killed. */
  readonly #letGo = Promise.withResolvers<void>();
  /** Cuts the connection's channel, when the other side does not end by itself. */
  readonly #cut = new AbortController();
  readonly #done = new AbortController();
  #begun = false;
  #last: Frame | undefined;
  #garbled: unknown;

  constructor(
    private readonly request: ExecRequest,
    private readonly account: ClusterAccount,
    private readonly clock: Clock,
  ) {}

  async run(signal: AbortSignal): Promise<ExecResult> {
    const { request } = this;
    const nonce = crypto.getRandomValues(new Uint8Array(16)).toHex();
    const enter: EnterRequest = {
      ...request,
      nonce,
      waitMs: CONTAINER_WAIT_MS,
      maxOutputBytes: MAX_EXEC_OUTPUT_BYTES,
    };
    const frames = new FrameReader(nonce, (frame) => this.#take(frame));
    const onAbort = () => this.#end();
    signal.throwIfAborted();
    signal.addEventListener("abort", onAbort, { once: true });
    const guard = this.#guard();
    try {
      const result = await this.account.session.run(execScript(request.jobId, request.host), {
        stdin: this.#stdin(encodeRequest(enter)),
        timeoutMs: UNLIMITED_MS,
        signal: this.#cut.signal,
        onStdout: (piece) => {
          try {
            if (this.#garbled === undefined) frames.add(piece);
          } catch (error) {
            this.#garbled = error;
            this.#end();
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
      this.#letGo.resolve();
      this.#done.abort();
      await guard;
    }
  }

  async *#stdin(request: Uint8Array): AsyncGenerator<Uint8Array> {
    yield PROGRAM;
    yield request;
    await this.#letGo.promise;
  }

  #take(frame: Frame): void {
    if (frame.kind === "stdout") this.#stdout.push(frame.bytes);
    else if (frame.kind === "stderr") this.#stderr.push(frame.bytes);
    else this.#last = frame;
    if (frame.kind !== "started") return;
    this.#begun = true;
    this.#started.resolve();
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

  /** Lets the other side kill the command; if it does not do so in time, the channel is cut. */
  #end(): void {
    this.#letGo.resolve();
    this.clock.sleep(END_LIMIT_MS, this.#done.signal).then(() => this.#cut.abort(), () => {});
  }

  #judge(result: RunResult): ExecResult {
    if (this.#garbled !== undefined) throw this.#garbled;
    const { containerId, jobId, host, timeoutMs } = this.request;
    const last = this.#last;
    switch (last?.kind) {
      case "exited":
        return {
          stdout: concat(this.#stdout),
          stderr: concat(this.#stderr),
          exitCode: last.code,
        };
      case "timedOut":
        throw new CriError(
          "DEADLINE_EXCEEDED",
          `A command in the container ${containerId} ran longer than ${timeoutMs} ms and was killed.`,
        );
      case "refused":
        return this.#refuse(last.why, last.text);
      case "abandoned":
        throw this.#unknown("it did not begin or end in time and was killed");
    }
    const words = messageOf(new TextDecoder().decode(result.stderr)).slice(0, 1000);
    if (NO_PERL.test(words)) {
      throw new CriError(
        "FAILED_PRECONDITION",
        `Cannot run a command in the container ${containerId}: it takes perl on the node ${host}, which ` +
          `has none.`,
      );
    }
    throw this.#unknown(`srun for the job ${jobId} ended with ${result.code}: ${words}`);
  }

  #refuse(why: (Frame & { kind: "refused" })["why"], text: string): never {
    const { containerId, argv, host } = this.request;
    switch (why) {
      case "starting":
        throw new ContainerStarting(
          `Cannot run a command in the container ${containerId} on ${host}: ${text}.`,
        );
      case "command":
        throw new CriError(
          "INVALID_ARGUMENT",
          `Cannot run ${JSON.stringify(argv[0])} in the container ${containerId}: ${text}.`,
        );
      case "setuid":
      case "node":
      case "ended":
        throw new CriError(
          "FAILED_PRECONDITION",
          `Cannot run a command in the container ${containerId} on ${host}: ${text}.`,
        );
    }
  }

  /** UNAVAILABLE when the command never began, so that trying again is harmless. */
  #unknown(why: string): CriError {
    const { containerId } = this.request;
    return this.#begun
      ? new CriError(
        "UNKNOWN",
        `Cannot tell how a command in the container ${containerId} on ${this.account.name} ended: ${why}.`,
      )
      : new CriError(
        "UNAVAILABLE",
        `Cannot run a command in the container ${containerId} on ${this.account.name}: ${why}.`,
      );
  }
}

function tooBusy({ containerId }: ExecRequest, { name }: ClusterAccount): CriError {
  return new CriError(
    "UNAVAILABLE",
    `Cannot run a command in the container ${containerId} on ${name}: ${MAX_EXECS_AT_ONCE} others ran all ` +
      `the time for ${START_LIMIT_MS} ms.`,
  );
}
