import { join } from "@std/path";
import type { Clock } from "../../base/clock.ts";
import { messageOf } from "../../base/error.ts";
import type { Logger } from "../../base/log.ts";
import type { Executor } from "../../executors/executor.ts";
import type { ContainerRecord } from "../../store/records.ts";
import type { Table } from "../../store/table.ts";
import type { LayerUsage } from "../adapter.ts";
import type { Places } from "./places.ts";

/** As often as other runtimes look; kubelets compare with limits every ten seconds at most. */
const INTERVAL_MS = 10_000;
/** A large layer is looked at less often, so that looking takes a tenth of the time at most. */
const PAUSE_FACTOR = 9;
/** A look that takes longer is given up. */
const TIMEOUT_MS = 600_000;

/**
 * What containers have written into their layers, as the disk has it; looked at when somebody asks, behind the call.
 */
export class LayerSizes {
  readonly #told = new Map<string, LayerUsage>();
  readonly #closed = new AbortController();
  #looking: Promise<void> | undefined;
  #nextAtMs = 0;

  constructor(
    private readonly executor: Executor,
    private readonly places: Places,
    private readonly containers: Pick<Table<ContainerRecord>, "all" | "get">,
    private readonly clock: Clock,
    private readonly log: Logger,
  ) {}

  /** What the last look has found. */
  of(id: string): LayerUsage | undefined {
    return this.#told.get(id);
  }

  /** What the last look has found of all together. */
  total(): LayerUsage {
    const all = [...this.#told.values()];
    return {
      directory: this.places.folders.layers,
      measuredAtMs: all.reduce((last, { measuredAtMs }) => Math.max(last, measuredAtMs), 0) ||
        this.clock.now(),
      bytes: all.reduce((sum, { bytes }) => sum + bytes, 0n),
      inodes: all.reduce((sum, { inodes }) => sum + inodes, 0n),
    };
  }

  forget(id: string): void {
    this.#told.delete(id);
  }

  /** Looks again, unless somebody does or did a moment ago. Resolves when that has ended, whatever came of it. */
  async refresh(): Promise<void> {
    if (this.#looking === undefined && this.clock.now() >= this.#nextAtMs) {
      this.#looking = this.#look()
        .catch((error) => {
          if (this.#closed.signal.aborted) return;
          this.log.warning("Cannot look how large containers are", { error: messageOf(error) });
        })
        .finally(() => this.#looking = undefined);
    }
    await this.#looking;
  }

  async close(): Promise<void> {
    this.#closed.abort();
    await this.#looking;
  }

  async #look(): Promise<void> {
    const startedAtMs = this.clock.now();
    const ids = this.containers.all().filter((one) => this.#mayHaveChanged(one)).map(({ id }) =>
      id
    );
    const uppers = ids.map((id) => join(this.places.container(id).layer, "upper"));
    try {
      const bytes = await this.#count("--block-size=1", uppers);
      const inodes = await this.#count("--inodes", uppers);
      for (const [index, id] of ids.entries()) {
        const upper = uppers[index] ?? "";
        const [ofBytes, ofInodes] = [bytes.get(upper), inodes.get(upper)];
        // It may have been removed meanwhile.
        if (ofBytes === undefined || ofInodes === undefined || !this.containers.get(id)) continue;
        this.#told.set(id, {
          directory: this.places.folders.layers,
          measuredAtMs: startedAtMs,
          bytes: ofBytes,
          inodes: ofInodes,
        });
      }
    } finally {
      const tookMs = this.clock.now() - startedAtMs;
      this.#nextAtMs = this.clock.now() + Math.max(INTERVAL_MS - tookMs, PAUSE_FACTOR * tookMs);
    }
  }

  /** What has ended writes nothing more, and what was not started nothing yet. */
  #mayHaveChanged({ id, createdAtMs, state }: ContainerRecord): boolean {
    const endedAtMs = state.phase === "created"
      ? createdAtMs
      : state.phase === "exited"
      ? state.finishedAtMs
      : Infinity;
    return (this.#told.get(id)?.measuredAtMs ?? -Infinity) <= endedAtMs;
  }

  /** A number for each folder that is there, by du(1), which follows no link and counts no other file system. */
  async #count(what: string, folders: readonly string[]): Promise<Map<string, bigint>> {
    if (folders.length === 0) return new Map();
    const { stdout } = await this.executor.run(
      ["sh", "-c", 'exec du -sx "$@"', "sh", what, "--", ...folders],
      { timeoutMs: TIMEOUT_MS, signal: this.#closed.signal },
    );
    const lines = new TextDecoder().decode(stdout).split("\n");
    return new Map(lines.flatMap((line) => {
      const [, number, folder] = /^(\d+)\t(.+)$/.exec(line) ?? [];
      return number === undefined || folder === undefined ? [] : [[folder, BigInt(number)]];
    }));
  }
}
