import type { Clock } from "../../base/clock.ts";
import { messageOf } from "../../base/error.ts";
import type { Logger } from "../../base/log.ts";
import type { ContainerLog } from "../../logs/container_log.ts";
import type { ContainerEnd } from "../../store/container_state.ts";
import { copyOutput } from "./output.ts";

/** How late output and ends are seen when the kernel does not tell of them. */
const LOOK_INTERVAL_MS = 2_000;
/** Between looks at a container that writes without pause. */
const SHORTEST_PAUSE_MS = 10;

/** A container whose supervisor runs: its output goes into its log until its end is written down. */
export class RunningContainer {
  #changed = Promise.withResolvers<void>();
  readonly #over = new AbortController();
  #loop: Promise<void> | undefined;

  constructor(
    readonly id: string,
    /** What the paths of its files begin with; see supervise.pl. */
    readonly files: string,
    readonly log: ContainerLog,
    private readonly clock: Clock,
    private readonly logger: Logger,
    private readonly ended: (end: ContainerEnd) => void,
  ) {}

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
        if (await this.#look()) return;
      } catch (error) {
        this.logger.warning("Cannot copy a container's output", {
          container: this.id,
          error: messageOf(error),
        });
      }
      await this.until(change, signal);
      await this.clock.sleep(SHORTEST_PAUSE_MS, signal).catch(() => {});
    }
  }

  /** True when it has ended and all of its output is copied. */
  async #look(): Promise<boolean> {
    const end = await readEnd(this.files);
    const final = end !== undefined;
    await copyOutput(`${this.files}.stdout`, "stdout", this.log, final);
    await copyOutput(`${this.files}.stderr`, "stderr", this.log, final);
    if (end === undefined) return false;
    this.ended(end);
    this.touch();
    return true;
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
