import { CriError } from "../../base/error.ts";
import type { SlurmSettings } from "../../config/slurm_settings.ts";
import type { ClusterSession } from "../../executors/ssh/session.ts";
import type { SlurmOption } from "../../../wasm/core.ts";
import { archiveOf } from "./archive.ts";
import { judgeLogin, judgeNode, type SiteFinding } from "./site_findings.ts";
import { LOGIN_SCRIPT, NODE_JOB, nodeScript, QUEUE_WAIT_S } from "./site_scripts.ts";
import { parseFields } from "./status_files.ts";

/** Slurm commands wait for a controller that is away. */
const LOGIN_TIMEOUT_MS = 120_000;
/** The wait in the queue, and what the job and its step may take. */
const NODE_TIMEOUT_MS = QUEUE_WAIT_S * 1000 + 120_000;

/** How the job is asked for that looks at a node. */
export interface SiteJob {
  options: readonly SlurmOption[];
  /** Runs before it looks; empty for none. */
  prerun: string;
}

/**
 * Looks at everything of a cluster that jobs need, on its login host and by a short job on a node.
 * @throws CriError when the cluster cannot be reached or logged in to.
 */
export async function checkSite(
  session: ClusterSession,
  settings: SlurmSettings,
  job: SiteJob,
): Promise<SiteFinding[]> {
  const login = await ask(session, LOGIN_SCRIPT, undefined, LOGIN_TIMEOUT_MS);
  const findings = [...judgeLogin(login), await checkFiles(session, login.get("home") ?? "")];
  if (findings.some(({ verdict }) => verdict === "missing")) return findings;
  const files = { "job.sh": NODE_JOB, ...(job.prerun === "" ? {} : { "prerun.sh": job.prerun }) };
  const archive = await archiveOf(
    Object.entries(files).map(([name, content]) => ({ kind: "file", name, mode: 0o600, content })),
  );
  const script = nodeScript(settings.mountPath, job.options);
  return [...findings, ...judgeNode(await ask(session, script, archive, NODE_TIMEOUT_MS))];
}

async function ask(
  session: ClusterSession,
  script: string,
  stdin: Uint8Array | undefined,
  timeoutMs: number,
): Promise<ReadonlyMap<string, string>> {
  const options = { timeoutMs, ...(stdin === undefined ? {} : { stdin }) };
  const { code, stdout, stderr } = await session.run(script, options);
  if (code === 0) return parseFields(stdout);
  throw new CriError(
    "FAILED_PRECONDITION",
    `Cannot look at the cluster ${session.name}: ${
      new TextDecoder().decode(stderr).trim() || `exit code ${code}`
    }.`,
  );
}

/** Status and output of jobs are read by sftp. */
async function checkFiles(session: ClusterSession, home: string): Promise<SiteFinding> {
  const what = "sftp";
  try {
    if (await session.stat(home) !== undefined) {
      return { what, verdict: "ok", says: "files are read and written" };
    }
    return {
      what,
      verdict: "missing",
      says: `it does not show the home directory ${home}: no job can be followed`,
    };
  } catch (error) {
    return {
      what,
      verdict: "missing",
      says: `no job can be followed: ${CriError.from(error).message}`,
    };
  }
}
