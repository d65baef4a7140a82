import type { Clock } from "../../base/clock.ts";
import type { ContainerUsage } from "../adapter.ts";
import { parseFields, parseTime } from "./status_files.ts";

/** `status/usage`, written by the job every some seconds: what its container's processes use. */
export type UsageFile = Omit<ContainerUsage, "nanoCores" | "cpuAtMs">;

/** Undefined when the file is not as the job script writes it. */
export function parseUsage(bytes: Uint8Array): UsageFile | undefined {
  const fields = parseFields(bytes);
  const number = (name: string) => {
    const text = fields.get(name) ?? "";
    return /^\d{1,19}$/.test(text) ? BigInt(text) : undefined;
  };
  const measuredAtMs = parseTime(fields.get("time"));
  const cpuNanoseconds = number("cpu");
  const residentBytes = number("resident");
  const ownBytes = number("own");
  const minorFaults = number("minor");
  const majorFaults = number("major");
  const processes = number("processes");
  if (
    measuredAtMs === undefined || cpuNanoseconds === undefined || residentBytes === undefined ||
    ownBytes === undefined || minorFaults === undefined || majorFaults === undefined ||
    processes === undefined
  ) return undefined;
  return {
    measuredAtMs,
    cpuNanoseconds,
    residentBytes,
    ownBytes,
    minorFaults,
    majorFaults,
    processes,
  };
}

/** Between a job's writing and our reading: the watch looks every two seconds, later where there are many jobs. */
const READING_LAG_MS = 3_000;

/** A job tells its first figures a second after its start; we may see the next ones first. */
const FIRST_FIGURES_MS = 5_000;

/**
 * What jobs told of their use. Their processor time is asked for more often than they tell it (`crictl stats` compares
 * two seconds), so it is that of a moment which lies so far back that there is a figure before and one behind it, and
 * in proportion between the two. Everything else is the last that was told.
 */
export class JobUsages {
  /** By container; oldest first, none older than is needed. */
  readonly #told = new Map<string, UsageFile[]>();
  readonly #lagMs: number;

  constructor(intervalMs: number, readonly clock: Clock) {
    this.#lagMs = intervalMs + READING_LAG_MS;
  }

  /** Takes in what the job that began at `startedAtMs` has told, all by our clock. */
  add(containerId: string, file: UsageFile, startedAtMs: number): void {
    const told = this.#told.get(containerId) ?? beginning(file, startedAtMs);
    const last = told.at(-1);
    if (last?.measuredAtMs === file.measuredAtMs) return;
    const goesOn = last === undefined ||
      last.measuredAtMs < file.measuredAtMs && last.cpuNanoseconds <= file.cpuNanoseconds;
    // Else the job began anew, or its clock was set back.
    this.#told.set(containerId, goesOn ? [...this.#needed(told), file] : [file]);
  }

  /** What is known now; undefined when nothing was told. */
  of(containerId: string): ContainerUsage | undefined {
    const told = this.#told.get(containerId) ?? [];
    const [before, last] = [told.at(-2), told.at(-1)];
    if (last === undefined) return undefined;
    return {
      ...last,
      ...cpuAt(told, this.clock.now() - this.#lagMs),
      ...(before === undefined ? {} : { nanoCores: rate(before, last) }),
    };
  }

  forget(containerId: string): void {
    this.#told.delete(containerId);
  }

  /** From the last on that is older than the moment which is told of. */
  #needed(told: readonly UsageFile[]): readonly UsageFile[] {
    const momentMs = this.clock.now() - this.#lagMs;
    const first = told.findLastIndex(({ measuredAtMs }) => measuredAtMs <= momentMs);
    return told.slice(Math.max(0, first));
  }
}

/** A job that began a moment ago had used nothing then; of an older one somebody may have told more already. */
function beginning(file: UsageFile, startedAtMs: number): UsageFile[] {
  const ageMs = file.measuredAtMs - startedAtMs;
  if (ageMs <= 0 || ageMs > FIRST_FIGURES_MS) return [];
  return [{ ...file, measuredAtMs: startedAtMs, cpuNanoseconds: 0n }];
}

/** The processor time at a moment, or at the nearest one of which something is known. */
function cpuAt(
  told: readonly UsageFile[],
  momentMs: number,
): Pick<ContainerUsage, "cpuAtMs" | "cpuNanoseconds"> {
  const index = told.findLastIndex(({ measuredAtMs }) => measuredAtMs <= momentMs);
  const [before, after] = [told[index], told[index + 1]];
  const nearest = before ?? after;
  if (nearest === undefined) throw new TypeError("Nothing was told");
  if (before === undefined || after === undefined) {
    return { cpuAtMs: nearest.measuredAtMs, cpuNanoseconds: nearest.cpuNanoseconds };
  }
  const share = (momentMs - before.measuredAtMs) / (after.measuredAtMs - before.measuredAtMs);
  const used = Math.floor(Number(after.cpuNanoseconds - before.cpuNanoseconds) * share);
  return { cpuAtMs: momentMs, cpuNanoseconds: before.cpuNanoseconds + BigInt(used) };
}

/** Processor nanoseconds a second. Both times are of the compute node's clock. */
function rate(before: UsageFile, after: UsageFile): bigint {
  const used = Number(after.cpuNanoseconds - before.cpuNanoseconds);
  return BigInt(Math.round(used * 1000 / (after.measuredAtMs - before.measuredAtMs)));
}
