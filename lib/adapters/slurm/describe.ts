import type { ContainerUsage } from "../adapter.ts";
import type { SlurmWorkload } from "./workload.ts";

/**
 * What a verbose ContainerStatus tells of a container's job: its record (job, node, queue, directory, why it waits),
 * and for people its times, where results lie, and what it uses.
 */
export function describeJob(
  workload: SlurmWorkload,
  usage: ContainerUsage | undefined,
): Record<string, unknown> {
  const { submittedAtMs, job, directory } = workload;
  return {
    ...workload,
    ...(submittedAtMs === undefined ? {} : { submittedAt: toIso(submittedAtMs) }),
    ...(job === undefined ? {} : { startedAt: toIso(job.startedAtMs) }),
    ...(directory === undefined ? {} : { resultsDirectory: `${directory}/results` }),
    ...(usage === undefined ? {} : { usage: { ...usage, measuredAt: toIso(usage.measuredAtMs) } }),
  };
}

function toIso(ms: number): string {
  return new Date(ms).toISOString();
}
