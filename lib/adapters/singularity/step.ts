import { CriError } from "../../base/error.ts";
import type { CommandStreams } from "../../streaming/process.ts";
import { encodeFields, type Frame, FrameReader } from "../steps/frames.ts";
import { StepInput } from "../steps/step_input.ts";
import type { NodeMeans } from "./means.ts";

/** So long a program may take to end what it began; longer than it waits for what it kills. */
const END_WAIT_MS = 5_000;

export type StepMeans = Pick<NodeMeans, "processes" | "clock">;

/** What a Perl program of this node is asked, and with whose streams. */
export interface NodeStep {
  /** As a part of sentences: "run a command in the container c1". */
  verb: string;
  /** What stands before perl(1) and its program: another namespace, for example. */
  prefix?: readonly string[];
  program: string;
  fields: readonly (string | number)[];
  streams?: Partial<Pick<CommandStreams, "stdin" | "resizes">>;
}

/** How it ended of its own accord. */
export type NodeStepEnd = Extract<Frame, { kind: "exited" | "timedOut" | "refused" }>;

const NOTHING: AsyncIterableIterator<Uint8Array> = {
  next: () => Promise.resolve({ done: true, value: undefined }),
  [Symbol.asyncIterator]() {
    return this;
  },
};

/**
 * Runs a program that speaks as step.pl tells, on this node, and resolves with how it ended. `take` gets every frame,
 * and while a promise that it gives is open nothing more is read. What runs is killed when `signal` aborts, and when
 * this process ends, because the program sees its stdin end; one that does not is killed itself.
 * @throws CriError UNKNOWN when it did not tell its end. The signal's reason when it aborts.
 */
export async function runNodeStep(
  { processes, clock }: StepMeans,
  step: NodeStep,
  signal: AbortSignal,
  take: (frame: Frame) => void | Promise<void>,
): Promise<NodeStepEnd> {
  signal.throwIfAborted();
  const nonce = crypto.getRandomValues(new Uint8Array(16)).toHex();
  const [first = "perl", ...rest] = [...step.prefix ?? [], "perl", "-e", step.program];
  const process = processes.start([first, ...rest]);
  const input = new StepInput({ stdin: NOTHING, ...step.streams });
  const over = new AbortController();
  const onAbort = () => {
    void process.endInput();
    clock.sleep(END_WAIT_MS, over.signal).then(() => process.kill(), () => {});
  };
  signal.addEventListener("abort", onAbort, { once: true });
  const fed = feed();
  let end: NodeStepEnd | undefined;
  try {
    const arrived: Frame[] = [];
    const frames = new FrameReader(nonce, (frame) => arrived.push(frame));
    for await (const piece of process.output) {
      frames.add(piece);
      for (const frame of arrived.splice(0)) {
        if (frame.kind === "taken") input.taken(frame.bytes);
        if (["exited", "timedOut", "refused"].includes(frame.kind)) end = frame as NodeStepEnd;
        await take(frame);
      }
    }
    signal.throwIfAborted();
    const { code, words } = await process.ended();
    if (end !== undefined) return end;
    throw new CriError(
      "UNKNOWN",
      `Cannot ${step.verb}: the program for that ended with ${code}: ${words}.`,
    );
  } finally {
    signal.removeEventListener("abort", onAbort);
    await input.close();
    await process.endInput();
    if (end === undefined && !signal.aborted) process.kill();
    await fed;
    await process.ended();
    over.abort();
  }

  async function feed(): Promise<void> {
    await process.write(encodeFields([nonce, ...step.fields]));
    for await (const frame of input.frames) await process.write(frame);
  }
}
