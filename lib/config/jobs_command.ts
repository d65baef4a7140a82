import { UsageError } from "./usage_error.ts";

/** An administrator's command about jobs on the clusters. */
export type JobsCommand =
  /** Lists everything of ours on the clusters. */
  | { kind: "list" }
  /** Ends jobs that no pod has any more, and removes their files but the results. */
  | { kind: "end"; jobs: readonly { cluster: string; jobId: string }[] }
  /** Gives up containers whose cluster can never be reached again. */
  | { kind: "abandon"; containers: readonly string[] };

/** What `multicri jobs` takes. */
export const JOBS_USAGE =
  `multicri jobs list [flags]                   everything of ours on the clusters
multicri jobs end CLUSTER/JOB… [flags]       end jobs that no pod has any more
multicri jobs abandon CONTAINER… [flags]     give up containers whose cluster is gone for good`;

/**
 * Parses the words after `jobs`, up to the first flag.
 * @throws UsageError with a sentence about what is wrong.
 */
export function parseJobsCommand(words: readonly string[]): JobsCommand {
  const [verb, ...subjects] = words;
  switch (verb) {
    case "list":
      if (subjects.length > 0) throw wrong("'list' takes flags only");
      return { kind: "list" };
    case "end":
      if (subjects.length === 0) throw wrong("'end' must be told jobs");
      return { kind: "end", jobs: subjects.map(parseJob) };
    case "abandon":
      if (subjects.length === 0) throw wrong("'abandon' must be told containers");
      return { kind: "abandon", containers: subjects };
    default:
      throw wrong(
        verb === undefined ? "it must be told what to do" : `${JSON.stringify(verb)} is unknown`,
      );
  }
}

function parseJob(word: string): { cluster: string; jobId: string } {
  const [, cluster, jobId] = /^([\w.-]{1,63})\/(\d+)$/.exec(word) ?? [];
  if (cluster !== undefined && jobId !== undefined) return { cluster, jobId };
  throw wrong(
    `${
      JSON.stringify(word)
    } is no job: it must be CLUSTER/JOB as 'jobs list' has it, such as hpc/17`,
  );
}

function wrong(why: string): UsageError {
  return new UsageError(
    `Cannot run 'multicri jobs': ${why}. It must be one of these:`,
    JOBS_USAGE,
  );
}
