import type { Clock } from "../../base/clock.ts";
import type { CriCode } from "../../base/error.ts";
import type { Logger } from "../../base/log.ts";
import type { ContainerLog } from "../../logs/container_log.ts";
import type { FullLog } from "../../logs/full_log.ts";
import type { UnwrittenLog } from "../../logs/unwritten_log.ts";
import type { ContainerEnd } from "../../store/container_state.ts";
import type { ContainerRecord } from "../../store/records.ts";
import type { Table } from "../../store/table.ts";
import type { ClusterAccount } from "./account.ts";
import type { OutputFollower, OutputSource } from "./follow.ts";
import type { NodeFollower } from "./node_follower.ts";
import type { JobUsages } from "./usage.ts";

/** Errors that say nothing about a job: the cluster did not answer. */
export const UNANSWERED: ReadonlySet<CriCode> = new Set<CriCode>([
  "UNAVAILABLE",
  "UNKNOWN",
  "UNAUTHENTICATED",
  "DEADLINE_EXCEEDED",
]);

/** A job that is watched. */
export interface WatchedJob {
  readonly containerId: string;
  readonly directory: string;
  readonly log: ContainerLog;
  readonly output: OutputFollower;
  jobId: string;
  /** Follows it on its node, where the cluster is set so; from when Slurm calls it running. */
  onNode?: NodeFollower;
  /** When its files were looked at last; undefined before the first look. */
  lookedAtMs?: number;
  /** The look that is under way, or was last; it may write into the log. Never rejects. */
  look?: Promise<void>;
  /** Whether it said that its status files have changed, or their node saw that, and they were not read since. */
  hasNews?: boolean;
  /** Whether it is known to have begun. */
  begun?: boolean;
  /** When its status files were read last. */
  statusReadAtMs?: number;
  /** When it wrote last. */
  wroteAtMs?: number;
  /** Whether output is left that can be copied now. */
  copying?: boolean;
  /** When its output was opened last, whatever its attributes said. */
  openedAtMs?: number;
  /** What is done when its log is full; undefined before its output was looked at. */
  full?: FullLog;
  /** What is known of a log that cannot be written; undefined before its output was looked at. */
  unwritten?: UnwrittenLog;
  /** When Slurm was first seen to call it ended or not to know it; undefined while it lives. */
  endedSinceMs?: number;
  /** How it ended; told as soon as all of its output is copied. */
  end?: ContainerEnd;
  /** When its exit file told of a signal that was not ours: Slurm is asked why, before the end is told. */
  doubtedSinceMs?: number;
  /** What its log said last of its waiting. */
  toldWait?: { reason: string; atMs: number };
  /** Whether its log says so already. */
  endNoted?: boolean;
  /** Whether it was said that its files cannot be read. */
  unreadable?: boolean;
}

/** What a look at a job needs. */
export interface WatchPlace {
  readonly account: ClusterAccount;
  readonly output: OutputSource;
  readonly containers: Table<ContainerRecord>;
  readonly usages: JobUsages;
  readonly clock: Clock;
  readonly log: Logger;
  /** Writes a line into the container's log. */
  readonly note: (job: WatchedJob, message: string) => Promise<void>;
}
