import type { Clock } from "../../base/clock.ts";
import { CriError, messageOf } from "../../base/error.ts";
import type { Logger } from "../../base/log.ts";
import { SharedWork } from "../../base/shared_work.ts";
import type { Executor } from "../../executors/executor.ts";
import nodeProgram from "./node.pl" with { type: "text" };
import podTraffic from "./pod_traffic.pl" with { type: "text" };

const PROGRAM = nodeProgram + podTraffic;

/** Asked again sooner, the figures are those of before: every look starts a process. */
const FRESH_MS = 500;
/** A look takes a millisecond and another for a hundred pods; a loaded node may need much longer. */
const TIMEOUT_MS = 30_000;

/** Every namespace has one, and nothing of it leaves the pod. */
const LOOPBACK = "lo";

/** What went one way through an interface since it is there. */
export interface Flow {
  readonly bytes: bigint;
  readonly packets: bigint;
  readonly errors: bigint;
  readonly dropped: bigint;
}

export interface InterfaceTraffic {
  readonly name: string;
  readonly received: Flow;
  readonly sent: Flow;
}

/** What went through a pod's network. */
export interface Traffic {
  /** Milliseconds since the epoch on this node's clock. */
  readonly measuredAtMs: number;
  /** Without the loopback; of `eth0` first, if there is one. */
  readonly interfaces: readonly InterfaceTraffic[];
}

/** What goes through the networks that pods have of their own, all measured by one process. */
export class PodTraffic {
  #told: ReadonlyMap<string, Traffic> = new Map();
  #complaint = "";
  readonly #measuring: SharedWork;

  constructor(
    private readonly executor: Executor,
    private readonly clock: Clock,
    private readonly log: Logger,
  ) {
    this.#measuring = new SharedWork(clock, FRESH_MS);
  }

  /** As far as it is known. */
  of(sandboxId: string): Traffic | undefined {
    return this.#told.get(sandboxId);
  }

  /**
   * Measures the network namespaces at these paths, by the ids of their sandboxes. Where that fails, as without
   * perl(1), nothing is known, and the log says so: an error would cost a kubelet its statistics of the whole node.
   */
  async measure(paths: () => ReadonlyMap<string, string>): Promise<void> {
    await this.#measuring.run(async () => {
      const byId = paths();
      try {
        this.#told = byId.size === 0 ? new Map() : await this.#look(byId);
        this.#complaint = "";
      } catch (error) {
        this.#told = new Map();
        const complaint = `Cannot measure the networks of pods: ${messageOf(error)}`;
        if (complaint !== this.#complaint) this.log.warning(complaint);
        this.#complaint = complaint;
      }
    });
  }

  async #look(paths: ReadonlyMap<string, string>): Promise<Map<string, Traffic>> {
    const argv: [string, ...string[]] = ["perl", "-e", PROGRAM, ...paths.values()];
    const { code, stdout, stderr } = await this.executor.run(argv, { timeoutMs: TIMEOUT_MS });
    const decoder = new TextDecoder();
    if (code !== 0) {
      throw new CriError(
        "INTERNAL",
        `perl ended with exit code ${code}: ${decoder.decode(stderr)}`,
      );
    }
    const measuredAtMs = this.clock.now();
    const ids = [...paths.keys()];
    return new Map(
      decoder.decode(stdout).split(/^pod (?=\d+$)/m).slice(1).map((part) => [
        ids[parseInt(part)] ?? "",
        { measuredAtMs, interfaces: parseInterfaces(part) },
      ]),
    );
  }
}

/** Reads /proc/net/dev (proc_pid_net(5)): eight figures of what came, then eight of what went. */
function parseInterfaces(text: string): InterfaceTraffic[] {
  const interfaces = text.split("\n").flatMap((line) => {
    const [, name, numbers] = /^\s*([^:\s]+):((?:\s*\d+){16})\s*$/.exec(line) ?? [];
    if (name === undefined || numbers === undefined || name === LOOPBACK) return [];
    const figures = numbers.trim().split(/\s+/).map(BigInt);
    return { name, received: flow(figures.slice(0, 8)), sent: flow(figures.slice(8)) };
  });
  return interfaces.toSorted((a, b) => Number(b.name === "eth0") - Number(a.name === "eth0"));
}

function flow([bytes = 0n, packets = 0n, errors = 0n, dropped = 0n]: readonly bigint[]): Flow {
  return { bytes, packets, errors, dropped };
}
