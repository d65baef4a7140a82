import { join } from "@std/path";
import type { Clock } from "../../base/clock.ts";
import { CriError } from "../../base/error.ts";
import { Slots } from "../../base/slots.ts";
import { watchProgress } from "../../base/watch_progress.ts";
import type { ClusterSession } from "../../executors/ssh/session.ts";
import { makeImageScript, NO_RUNTIME_EXIT } from "./image_scripts.ts";
import { OutputLines } from "./output_lines.ts";

/** Each holds one of the connection's channels and cores of a login host that others share. */
const MAX_CONCURRENT_MAKES = 2;
/** A build that takes longer is given up, whatever it says. */
const MAKE_TIMEOUT_MS = 2 * 3600 * 1000;
const LOOK_INTERVAL_MS = 60_000;
/** Looks that see neither a word nor a byte until it counts as stalled: half an hour, as a compiler may be silent. */
const MAX_IDLE_LOOKS = 30;

/** How the cluster's runtime makes an image. */
export interface Making {
  /** What stands behind `apptainer`. */
  words: readonly string[];
  /** What it does, for a person. */
  told: string;
  /** The directory in which it runs. */
  from: string;
}

/** How the cluster's own runtime is called. */
export interface Means {
  /** A script that is sourced before, and may bring the runtime into the PATH. */
  prerun: string;
  /** What stands before the runtime: srun and its options, where it is to run in a job. */
  launcher: readonly string[];
}

/** The file that is made: `part` in `directory`, which then lands as `name`. */
export interface MadeFile {
  directory: string;
  name: string;
  part: string;
}

/** Lets one cluster's own runtime make images, for one account. */
export class ImageMaker {
  readonly #slots = new Slots(MAX_CONCURRENT_MAKES);

  constructor(readonly session: ClusterSession, readonly clock: Clock) {}

  /**
   * Makes an image and lands it.
   * @param announce Gets what the runtime says, line by line.
   * @throws CriError FAILED_PRECONDITION when the runtime fails, or for half an hour neither says nor
   * writes anything; as `ClusterSession.run`.
   */
  async make(
    { directory, name, part }: MadeFile,
    { words, told, from }: Making,
    { prerun, launcher }: Means,
    signal: AbortSignal,
    announce: (message: string) => Promise<void>,
  ): Promise<void> {
    await this.#slots.run(async () => {
      await announce(`${told} on ${this.session.name}`);
      const output = new OutputLines((line) => announce(line));
      let saidBytes = 0;
      const { code } = await watchProgress(
        {
          clock: this.clock,
          signal,
          intervalMs: LOOK_INTERVAL_MS,
          maxIdleLooks: MAX_IDLE_LOOKS,
          look: async () => {
            const written = await this.session.stat(join(directory, part));
            return `${saidBytes} ${written?.sizeBytes}`;
          },
          stalled: () => {
            const minutes = MAX_IDLE_LOOKS * LOOK_INTERVAL_MS / 60_000;
            return this.#failure(told, `it said and wrote nothing for ${minutes} minutes`);
          },
        },
        (signal) =>
          this.session.run(makeImageScript(directory, name, part, { words, from, launcher }), {
            stdin: new TextEncoder().encode(prerun),
            timeoutMs: MAKE_TIMEOUT_MS,
            signal,
            onStdout: (piece) => {
              saidBytes += piece.length;
              return output.add(piece);
            },
          }),
      );
      await output.end();
      if (code === 0) return;
      const why = code === NO_RUNTIME_EXIT
        ? "neither apptainer nor singularity is in the PATH of its login host; CLUSTER_CONFIG may bring one there"
        : output.last || `exit code ${code}`;
      throw this.#failure(told, why);
    }, signal);
  }

  #failure(told: string, why: string): CriError {
    return new CriError(
      "FAILED_PRECONDITION",
      `Cannot make the image (${told}) on ${this.session.name}: ${why}`,
    );
  }
}
