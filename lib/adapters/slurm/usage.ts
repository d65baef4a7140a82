import type { ContainerUsage } from "../adapter.ts";
import { parseFields, parseTime } from "./status_files.ts";

/** `status/usage`, written by the job every some seconds: what its container's processes use. */
export type UsageFile = Omit<ContainerUsage, "nanoCores">;

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

/**
 * What is known after another look: with the processor's share between the two, once there are two. Both times are
 * those of the compute node, so that its clock may differ from ours.
 */
export function nextUsage(before: ContainerUsage | undefined, file: UsageFile): ContainerUsage {
  if (before === undefined) return file;
  const elapsedMs = file.measuredAtMs - before.measuredAtMs;
  if (elapsedMs === 0) return before;
  const used = file.cpuNanoseconds - before.cpuNanoseconds;
  // A job that began anew counts from 0, and a clock may be set back.
  if (used < 0n || elapsedMs < 0) return file;
  return { ...file, nanoCores: BigInt(Math.round(Number(used) * 1000 / elapsedMs)) };
}
