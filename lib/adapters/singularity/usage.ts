import type { Clock } from "../../base/clock.ts";
import { SharedWork } from "../../base/shared_work.ts";
import type { ContainerUsage } from "../adapter.ts";
import { type Figures, parseUsages } from "./cgroup_figures.ts";
import type { Node } from "./node.ts";

/** Asked again sooner, the figures are those of before: every look starts a process. */
const FRESH_MS = 500;

/** What containers of this node use, from their cgroups. */
export class NodeUsages {
  readonly #told = new Map<string, ContainerUsage>();
  readonly #measuring: SharedWork;

  constructor(private readonly node: Node, private readonly clock: Clock) {
    this.#measuring = new SharedWork(clock, FRESH_MS);
  }

  of(id: string): ContainerUsage | undefined {
    return this.#told.get(id);
  }

  forget(id: string): void {
    this.#told.delete(id);
  }

  /** Measures the containers whose cgroups these files list, by their ids, unless that was done a moment ago. */
  async measure(lists: () => ReadonlyMap<string, string>): Promise<void> {
    await this.#measuring.run(() => this.#measure(lists()));
  }

  async #measure(lists: ReadonlyMap<string, string>): Promise<void> {
    const ids = [...lists.keys()];
    if (ids.length === 0) return;
    const usages = parseUsages(await this.node.cgroupFiles([...lists.values()]));
    const now = this.clock.now();
    for (const [index, id] of ids.entries()) {
      const figures = usages.get(index);
      if (figures !== undefined) this.#tell(id, figures, now);
    }
  }

  #tell(id: string, figures: Figures, now: number): void {
    const before = this.#told.get(id);
    const rate = before === undefined || before.cpuAtMs === now
      ? undefined
      : (figures.cpuNanoseconds - before.cpuNanoseconds) * 1000n / BigInt(now - before.cpuAtMs);
    this.#told.set(id, {
      measuredAtMs: now,
      cpuAtMs: now,
      ...figures,
      ...(rate === undefined || rate < 0n ? {} : { nanoCores: rate }),
    });
  }
}
