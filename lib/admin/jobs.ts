/** `multicri jobs`: what an administrator does about jobs that no pod has any more. */
import { endTaggedJob, readTaggedJobs, type TaggedJob } from "../adapters/slurm/tagged_jobs.ts";
import { CriError, messageOf } from "../base/error.ts";
import type { SlurmSettings } from "../config/slurm_settings.ts";
import type { JobsCommand } from "../config/jobs_command.ts";
import type { ClusterLogin } from "../executors/ssh/login.ts";
import type { ClusterSessions } from "../executors/ssh/sessions.ts";
import type { RunningServer } from "./running_server.ts";

/** What the commands work on. */
export interface JobsPlace {
  /** By name; see `knownLogins`. */
  logins: ReadonlyMap<string, ClusterLogin>;
  sessions: ClusterSessions;
  server: RunningServer;
  slurm: SlurmSettings;
  /** Writes a line for the administrator. */
  print: (line: string) => void;
}

/**
 * Runs a command; false when a part of it failed, which a line says.
 * @throws CriError when nothing of it could be done.
 */
export async function runJobsCommand(place: JobsPlace, command: JobsCommand): Promise<boolean> {
  switch (command.kind) {
    case "list":
      return await listJobs(place);
    case "end":
      return await eachOf(
        place,
        command.jobs,
        ({ cluster, jobId }) => endJob(place, cluster, jobId),
      );
    case "abandon":
      return await eachOf(place, command.containers, async (id) => {
        await place.server.abandon(id);
        place.print(`${id}: abandoned`);
      });
    default:
      return command satisfies never;
  }
}

/** Does something for each, whatever happens with another. */
async function eachOf<T>(
  { print }: JobsPlace,
  list: readonly T[],
  work: (one: T) => Promise<void>,
): Promise<boolean> {
  let allWell = true;
  for (const one of list) {
    try {
      await work(one);
    } catch (error) {
      allWell = false;
      print(messageOf(error));
    }
  }
  return allWell;
}

async function listJobs(place: JobsPlace): Promise<boolean> {
  if (place.logins.size === 0) throw noLogins();
  const known = await place.server.knownIds();
  const rows = [["CLUSTER/JOB", "STATE", "POD", "CONTAINER", "KNOWN", "DIRECTORY"]];
  const failures: string[] = [];
  await eachOf({ ...place, print: (line) => failures.push(line) }, [...place.logins], async (
    [name, login],
  ) => {
    for (const job of await jobsOf(place, login)) {
      const isKnown = known === undefined ? "?" : known.has(job.containerId) ? "yes" : "no";
      const { jobId, state, pod, containerName, directory } = job;
      rows.push([`${name}/${jobId || "-"}`, state, pod, containerName, isKnown, directory]);
    }
  });
  for (const line of formatTable(rows)) place.print(line);
  for (const line of failures) place.print(line);
  return failures.length === 0;
}

async function endJob(place: JobsPlace, cluster: string, jobId: string): Promise<void> {
  const login = place.logins.get(cluster);
  if (login === undefined) {
    throw new CriError(
      "NOT_FOUND",
      `Cannot end ${cluster}/${jobId}: no login is known for that cluster, only for ` +
        `${[...place.logins.keys()].join(", ") || "none"}.`,
    );
  }
  const all = await jobsOf(place, login);
  const job = all.find((one) => one.jobId === jobId);
  if (job === undefined) {
    throw new CriError("NOT_FOUND", `Cannot end ${cluster}/${jobId}: it is no job of multicri's.`);
  }
  const known = await place.server.knownIds();
  if (known === undefined) {
    throw new CriError(
      "UNAVAILABLE",
      `Cannot end ${cluster}/${jobId}: whether it belongs to a pod of this node only its server knows, which does ` +
        `not answer at ${place.server.socketPath}; start it.`,
    );
  }
  if (known.has(job.containerId)) {
    throw new CriError(
      "FAILED_PRECONDITION",
      `Cannot end ${cluster}/${jobId}: it belongs to the pod ${job.pod} of this node; delete the pod.`,
    );
  }
  await withSession(place, login, (session) => endTaggedJob(session, job, all));
  place.print(`${cluster}/${jobId}: ended; results, if any, are in ${job.directory}/results`);
}

function jobsOf(place: JobsPlace, login: ClusterLogin): Promise<TaggedJob[]> {
  return withSession(place, login, (session) => readTaggedJobs(session, place.slurm));
}

async function withSession<T>(
  { sessions }: JobsPlace,
  login: ClusterLogin,
  use: (session: ReturnType<ClusterSessions["acquire"]>) => Promise<T>,
): Promise<T> {
  const session = sessions.acquire(login);
  try {
    return await use(session);
  } finally {
    sessions.release(session);
  }
}

/** Columns side by side. What a pod or another user wrote must not steer the administrator's terminal. */
export function formatTable(rows: readonly (readonly string[])[]): string[] {
  const clean = rows.map((row) => row.map((cell) => cell.replaceAll(/\p{C}/gu, "?")));
  const widths =
    clean[0]?.map((_, column) => Math.max(...clean.map((row) => row[column]?.length ?? 0))) ?? [];
  return clean.map((row) =>
    row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  ").trimEnd()
  );
}

function noLogins(): CriError {
  return new CriError(
    "FAILED_PRECONDITION",
    "Cannot list jobs: no login is known. Name --clusters-file, or set CLUSTER_HOST, CLUSTER_USERNAME and " +
      "CLUSTER_PASSWORD or CLUSTER_KEYVALUE as a pod has them.",
  );
}
