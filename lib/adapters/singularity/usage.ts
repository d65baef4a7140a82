import type { Clock } from "../../base/clock.ts";
import type { ContainerUsage } from "../adapter.ts";
import type { Node } from "./node.ts";

/** Asked again sooner, the figures are those of before: every look starts a process. */
const FRESH_MS = 500;

/**
 * Prints, for each list of cgroups that its arguments name (supervise.pl tells of them), its place among them and the
 * container's figures by names that both versions of cgroups have for us, in bytes, nanoseconds and counts.
 */
const READ = `
index=0
for list; do
  echo "container $index"
  index=$((index + 1))
  unified= memory= cpuacct= pids=
  [ -r "$list" ] || continue
  while read -r kind folder; do
    case $kind in unified | memory | cpuacct | pids) eval "$kind=\\$folder" ;; esac
  done <"$list"
  if [ -n "$unified" ]; then
    cd "$unified" 2>/dev/null || continue
    echo "usage $(cat memory.current) processes $(cat pids.current)"
    sed -n 's/^usage_usec /microseconds /p' cpu.stat || true
    sed -n 's/^anon /own /p; s/^inactive_file /idle /p; s/^pgfault /minor /p; s/^pgmajfault /major /p' memory.stat || true
  elif [ -n "$memory" ]; then
    cd "$memory" 2>/dev/null || continue
    echo "usage $(cat memory.usage_in_bytes)"
    sed -n 's/^total_rss /own /p; s/^total_inactive_file /idle /p; s/^total_pgfault /minor /p; s/^total_pgmajfault /major /p' memory.stat || true
    echo "nanoseconds $(cat "$cpuacct/cpuacct.usage")"
    echo "processes $(wc -l <"$pids/cgroup.procs")"
  fi
done`;

/** What containers of this node use, from their cgroups. */
export class NodeUsages {
  readonly #told = new Map<string, ContainerUsage>();
  #measuredAtMs = 0;
  #measuring: Promise<void> | undefined;

  constructor(private readonly node: Node, private readonly clock: Clock) {}

  of(id: string): ContainerUsage | undefined {
    return this.#told.get(id);
  }

  forget(id: string): void {
    this.#told.delete(id);
  }

  /** Measures the containers whose cgroups these files list, by their ids, unless that was done a moment ago. */
  async measure(lists: () => ReadonlyMap<string, string>): Promise<void> {
    if (this.#measuring !== undefined) return await this.#measuring;
    if (this.clock.now() - this.#measuredAtMs < FRESH_MS) return;
    this.#measuring = this.#measure(lists());
    try {
      await this.#measuring;
    } finally {
      this.#measuring = undefined;
    }
  }

  async #measure(lists: ReadonlyMap<string, string>): Promise<void> {
    const ids = [...lists.keys()];
    if (ids.length === 0) return;
    const text = await this.node.script("measure containers", READ, [...lists.values()]);
    const now = this.clock.now();
    this.#measuredAtMs = now;
    for (const part of text.split(/^container /m).slice(1)) {
      const id = ids[parseInt(part)];
      const figures = parseFigures(part);
      if (id === undefined || figures === undefined) continue;
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
}

/** Undefined for a container that ended meanwhile. */
function parseFigures(
  text: string,
): Omit<ContainerUsage, "measuredAtMs" | "cpuAtMs" | "nanoCores"> | undefined {
  const number = (name: string) => {
    const digits = new RegExp(`(?:^|\\s)${name} (\\d+)`).exec(text)?.[1];
    return digits === undefined ? undefined : BigInt(digits);
  };
  const usage = number("usage");
  const microseconds = number("microseconds");
  const cpuNanoseconds = microseconds === undefined ? number("nanoseconds") : microseconds * 1000n;
  if (usage === undefined || cpuNanoseconds === undefined) return undefined;
  const idle = number("idle") ?? 0n;
  return {
    cpuNanoseconds,
    // The working set, as the kubelet reckons it: without files that nobody has used lately.
    residentBytes: usage > idle ? usage - idle : 0n,
    ownBytes: number("own") ?? 0n,
    minorFaults: number("minor") ?? 0n,
    majorFaults: number("major") ?? 0n,
    processes: number("processes") ?? 0n,
  };
}
