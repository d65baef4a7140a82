/** `multicri site`: what an administrator asks about a cluster before its pods do. */
import { readJobOptions } from "../adapters/slurm/job_options.ts";
import { checkSite, type SiteJob } from "../adapters/slurm/site_check.ts";
import type { SiteFinding } from "../adapters/slurm/site_findings.ts";
import { CriError, messageOf } from "../base/error.ts";
import { SITE_VARIABLES, type SiteCommand } from "../config/site_command.ts";
import type { SlurmSettings } from "../config/slurm_settings.ts";
import type { ClusterLogin } from "../executors/ssh/login.ts";
import type { ClusterSessions } from "../executors/ssh/sessions.ts";
import { formatTable } from "./jobs.ts";

/** What the command works on. */
export interface SitePlace {
  /** By name; see `knownLogins`. */
  logins: ReadonlyMap<string, ClusterLogin>;
  sessions: ClusterSessions;
  slurm: SlurmSettings;
  job: SiteJob;
  /** Writes a line for the administrator. */
  print: (line: string) => void;
}

/**
 * How a job is asked for by the command's environment.
 * @throws CriError INVALID_ARGUMENT for a value that cannot be used.
 */
export function siteJob(env: (name: string) => string | undefined): SiteJob {
  const variables = new Map(
    SITE_VARIABLES.flatMap((name): [string, string][] => {
      const value = env(name);
      return value === undefined ? [] : [[name, value]];
    }),
  );
  const { options } = readJobOptions(variables, {});
  return { options, prerun: variables.get("CLUSTER_CONFIG") ?? "" };
}

/**
 * Looks at each cluster and prints what it offers; false when one lacks what a job needs, or cannot be reached.
 * @throws CriError NOT_FOUND for a name without a login, FAILED_PRECONDITION when there is no login at all.
 */
export async function runSiteCommand(place: SitePlace, command: SiteCommand): Promise<boolean> {
  const names = command.clusters.length > 0 ? command.clusters : [...place.logins.keys()];
  if (names.length === 0) {
    throw new CriError(
      "FAILED_PRECONDITION",
      "Cannot look at a cluster: no login is known. Name --clusters-file, or set CLUSTER_HOST, CLUSTER_USERNAME " +
        "and CLUSTER_PASSWORD or CLUSTER_KEYVALUE as a pod has them.",
    );
  }
  let allWell = true;
  for (const name of names) {
    const findings = await findingsOf(place, name);
    const rows = findings.map(({ what, verdict, says }) => [`${name}:`, verdict, what, says]);
    for (const line of formatTable(rows)) place.print(line);
    allWell &&= findings.every(({ verdict }) => verdict !== "missing");
  }
  return allWell;
}

async function findingsOf(place: SitePlace, name: string): Promise<SiteFinding[]> {
  const login = place.logins.get(name);
  if (login === undefined) {
    throw new CriError(
      "NOT_FOUND",
      `Cannot look at ${name}: no login is known for that cluster, only for ` +
        `${[...place.logins.keys()].join(", ") || "none"}.`,
    );
  }
  const session = place.sessions.acquire(login);
  try {
    await session.connect();
    const ssh: SiteFinding = { what: "ssh", verdict: "ok", says: `${session.name} lets us in` };
    return [ssh, ...await checkSite(session, place.slurm, place.job)];
  } catch (error) {
    return [{ what: "ssh", verdict: "missing", says: messageOf(error) }];
  } finally {
    place.sessions.release(session);
  }
}
