import type { ContainerUsage } from "../adapter.ts";
import { resultsOf, type SlurmWorkload } from "./workload.ts";

/**
 * What a verbose ContainerStatus tells of a container's job: its record (job, node, queue, directory, why it waits),
 * and for people its times, where results lie, and what it uses.
 */
export function describeJob(
  workload: SlurmWorkload,
  usage: ContainerUsage | undefined,
): Record<string, unknown> {
  const { submittedAtMs, job } = workload;
  const resultsDirectory = resultsOf(workload);
  return {
    ...workload,
    ...(submittedAtMs === undefined ? {} : { submittedAt: toIso(submittedAtMs) }),
    ...(job === undefined ? {} : { startedAt: toIso(job.startedAtMs) }),
    ...(resultsDirectory === undefined ? {} : { resultsDirectory }),
    ...(usage === undefined ? {} : { usage: { ...usage, measuredAt: toIso(usage.measuredAtMs) } }),
  };
}

function toIso(ms: number): string {
  return new Date(ms).toISOString();
}
