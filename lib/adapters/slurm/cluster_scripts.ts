/**
 * Every script that runs on the login host. POSIX sh, for whatever /bin/sh is there; parameters go in
 * quoted by `quoteShell`, data by stdin.
 */
import { basename } from "@std/path";
import type { Allocation } from "./allocation.ts";
import { defineJoinAllocation } from "./allocation_scripts.ts";
import { CLOCK_SCRIPT } from "./cluster_clock.ts";
import { NEWS_FOLDER, newsFolder } from "./news_folder.ts";
import type { Variable } from "./settings.ts";
import type { MadeDirectory } from "./staging.ts";
import { makeDirectoriesScript, removeTrees } from "./volume_scripts.ts";
import { quoteShell } from "../../../wasm/core.ts";

/** Files that are ours in a container's directory; the rest belongs to the program. */
const OWN_FILES =
  "env job.sh prerun.sh stdio.pl stdin jobid jobid.part attempted lock status slurm.log stdout stderr " +
  "termination-log volumes volumes.sh hosts hosts.pod";

/**
 * Options of ours that a variable of the login shell would override (sbatch(1), INPUT ENVIRONMENT VARIABLES: they
 * win over the script's lines). The others stay: a site may set a user's account so.
 */
const OWN_SBATCH_VARIABLES = [
  "array-inx",
  "error",
  "export",
  "ignore-pbs",
  "job-name",
  "open-mode",
  "output",
  "requeue",
  "wait",
];

/** Exit codes of `submitScript` beside 0. */
export const SUBMIT_EXIT = {
  /** The directory or a file in it cannot be made. */
  FILES: 74,
  /** Another submission is under way, or Slurm cannot be asked whether there was one. */
  TRY_AGAIN: 75,
  /** sbatch refused; its words are on stderr. */
  REFUSED: 76,
  /** The container was stopped before its job was submitted (`settleScript`). */
  STOPPED: 77,
} as const;

/** Stands in `status/claim` where a job's id would, so that no job of the container ever runs its program. */
const STOPPED_CLAIM = "stopped";

/** Prints the home directory, NUL, then the names of the commands that are missing. */
export const PROBE_SCRIPT = `
printf '%s\\0' "$HOME"
for tool in sbatch squeue scancel tar sha256sum; do
  command -v "$tool" >/dev/null 2>&1 || printf '%s ' "$tool"
done
`;

/**
 * Makes the directory, unpacks the job's files (a tar archive on stdin) and submits the job, once for all
 * repetitions of the call: prints the id of the job there is.
 *
 * `attempted` is left before sbatch, so that only a repetition has to ask Slurm; the job's own claim
 * (`status/claim`) keeps a second job, should one ever be accepted, from doing anything.
 */
export function submitScript(
  options: {
    directory: string;
    jobName: string;
    optionNames: readonly string[];
    environment: readonly Variable[];
    /** What must be there beside the container's directory. */
    made?: readonly MadeDirectory[];
    /** The pod's job, for a container that has none of its own. */
    allocation?: Allocation | undefined;
  },
): string {
  const overriding = [...OWN_SBATCH_VARIABLES, ...options.optionNames].map((name) =>
    `SBATCH_${name.toUpperCase().replaceAll("-", "_")}`
  );
  const settings = options.environment.map(({ name, value }) =>
    `export ${name}=${quoteShell(value)}`
  );
  return `${enterDirectory(options.directory)}
[ "$(readlink status/claim 2>/dev/null)" != ${STOPPED_CLAIM} ] || exit ${SUBMIT_EXIT.STOPPED}
${makeDirectoriesScript(options.made ?? [], SUBMIT_EXIT.FILES)}
if [ -e attempted ]; then
  cat >/dev/null
  ${findJob(options.jobName)} || exit ${SUBMIT_EXIT.TRY_AGAIN}
else
  tar -xpf - || exit ${SUBMIT_EXIT.FILES}
  # Not ":", whose redirection ends a POSIX shell when it fails, without that code.
  true >attempted || exit ${SUBMIT_EXIT.FILES}
  job=
fi
if [ -z "$job" ]; then
  unset ${overriding.join(" ")}
  ${settings.join("\n  ")}
  ${submission(options.directory, options.allocation)}
fi
# Without this file (home full) a repetition finds the job by its claim or in Slurm.
{ printf '%s\\n' "$job" >jobid.part && mv jobid.part jobid; } 2>/dev/null
printf '%s\\n' "$job"
`;
}

/** Lines that submit what is to run, and set $job to the id of its job. */
function submission(directory: string, allocation: Allocation | undefined): string {
  if (allocation === undefined) {
    return `job=$(sbatch --parsable job.sh </dev/null 9>&-) || exit ${SUBMIT_EXIT.REFUSED}
  job=\${job%%;*}`;
  }
  return `${defineJoinAllocation(allocation, basename(directory))}
  join_allocation
  case $? in
    0) cd ${quoteShell(directory)} || exit ${SUBMIT_EXIT.FILES} ;;
    1) exit ${SUBMIT_EXIT.REFUSED} ;;
    2) exit ${SUBMIT_EXIT.TRY_AGAIN} ;;
    *) exit ${SUBMIT_EXIT.FILES} ;;
  esac`;
}

/**
 * Prints the id of the container's job, nothing when there is none; fails when Slurm cannot tell. Waits for a
 * submission that is still under way, because its connection may have broken.
 */
export function findJobScript(directory: string, name: string): string {
  return `
if [ ! -d ${quoteShell(directory)} ]; then
  # Nothing was submitted yet, or the home directory is away for a moment while the job runs.
  ${askForJob(name)} || exit ${SUBMIT_EXIT.TRY_AGAIN}
  printf '%s\\n' "$job"
  exit 0
fi
${enterDirectory(directory)}
[ -e attempted ] || exit 0
${findJob(name)} || exit ${SUBMIT_EXIT.TRY_AGAIN}
printf '%s\\n' "$job"
`;
}

/**
 * As `findJobScript`, and makes sure that a job which is not there now never runs the program: takes the claim
 * that the job would take. A submission that comes later is refused.
 */
export function settleScript(directory: string, name: string): string {
  return `
umask 077
if [ ! -e ${quoteShell(`${directory}/attempted`)} ] && ! ${
    makeDirectories(directory)
  } 2>/dev/null; then
  # The home is full: no submission came as far as sbatch, and none can.
  ${askForJob(name)} || exit ${SUBMIT_EXIT.TRY_AGAIN}
  printf '%s\\n' "$job"
  exit 0
fi
${enterDirectory(directory)}
job=
if [ -e attempted ]; then
  ${findJob(name)} || exit ${SUBMIT_EXIT.TRY_AGAIN}
fi
if [ -z "$job" ]; then
  ln -s -n ${STOPPED_CLAIM} status/claim 2>/dev/null
  job=$(readlink status/claim) || [ ! -e attempted ] || exit ${SUBMIT_EXIT.FILES}
  [ "$job" != ${STOPPED_CLAIM} ] || job=
fi
printf '%s\\n' "$job"
`;
}

/** Makes and enters a container's directory, alone among the scripts that submit or look for its job. */
function enterDirectory(directory: string): string {
  return `
umask 077
${makeDirectories(directory)} || exit ${SUBMIT_EXIT.FILES}
cd ${quoteShell(directory)} || exit ${SUBMIT_EXIT.FILES}
if command -v flock >/dev/null 2>&1; then
  exec 9>lock || exit ${SUBMIT_EXIT.FILES}
  # 1: somebody else has it. Any other failure: a file system without locks, where the claim must do.
  flock -w 30 9
  [ $? -ne 1 ] || exit ${SUBMIT_EXIT.TRY_AGAIN}
fi`;
}

function makeDirectories(directory: string): string {
  const paths = [`${directory}/results`, `${directory}/status`, newsFolder(directory)];
  return `mkdir -p ${paths.map((path) => quoteShell(path)).join(" ")}`;
}

/** Sets $job: the one that claimed the container, else the one that was submitted, else what Slurm knows. */
function findJob(name: string): string {
  return `{
    job=$(readlink status/claim 2>/dev/null || cat jobid 2>/dev/null)
    [ "$job" != ${STOPPED_CLAIM} ] || job=
    if [ -z "$job" ]; then
      ${askForJob(name)}
    fi
  }`;
}

/** Sets $job to what Slurm knows by the job's name; fails when it does not answer. */
function askForJob(name: string): string {
  return `job=$(squeue --noheader --states=all --user="$(id -un)" --name=${
    quoteShell(name)
  } --format=%A) && job=$(printf '%s\\n' "$job" | head -n 1)`;
}

/**
 * SIGTERM for the program, through the batch script, which passes it on once; a pending job is cancelled.
 * Prints nothing; what scancel says is on stderr.
 */
export function terminateScript(jobId: string): string {
  const job = quoteShell(jobId);
  return `scancel --state=PENDING ${job}; scancel --signal=TERM --batch ${job}; exit 0`;
}

/** SIGKILL for everything in the job, then the job itself. */
export function killScript(jobId: string): string {
  const job = quoteShell(jobId);
  return `scancel --signal=KILL --full ${job}; scancel ${job}; exit 0`;
}

/** Changes a job (scontrol(1), `update job`); fails with Slurm's words on stdout where it does not allow that. */
export function updateScript(jobId: string, settings: readonly string[]): string {
  const words = [`JobId=${jobId}`, ...settings].map((word) => quoteShell(word));
  return `exec scontrol update ${words.join(" ")} 2>&1`;
}

/**
 * A line of CLOCK_SCRIPT, and one for each of the account's jobs: id|partition|state|expected
 * start|priority|nodes|reason.
 */
export const SQUEUE_SCRIPT =
  `${CLOCK_SCRIPT}; exec squeue --noheader --states=all --user="$(id -un)" --format='%A|%P|%T|%S|%Q|%N|%r'`;

/**
 * What Slurm knows of a job that ended without a word, in three parts separated by a line `--`. Fails when
 * the controller does not answer, which is not the same as not knowing the job.
 */
export function postMortemScript(directory: string, jobId: string): string {
  const job = quoteShell(jobId);
  return `
known=$(scontrol --oneliner show job ${job} 2>&1) || case $known in
  *'Invalid job id'*) known= ;;
  *) printf '%s\\n' "$known" >&2; exit ${SUBMIT_EXIT.TRY_AGAIN} ;;
esac
printf '%s\\n' "$known"
echo --
sacct --noheader --allocations --parsable2 --jobs=${job} --format=State,ExitCode 2>/dev/null
echo --
tail -c 4096 ${quoteShell(`${directory}/slurm.log`)} 2>/dev/null
exit 0
`;
}

/**
 * Removes our files; the directory and its parent go too unless the program left results.
 * @param results The directory of results where that is not the container's own; it and its parent go if they are empty.
 */
export function cleanScript(directory: string, results?: string): string {
  return `${results === undefined ? "" : `${removeEmpty(results)}\n`}
cd ${quoteShell(directory)} 2>/dev/null || { rmdir ${
    quoteShell(parentName(directory))
  } 2>/dev/null; exit 0; }
${removeTrees(OWN_FILES)} || exit 1
rm -f ../../${NEWS_FOLDER}/${quoteShell(basename(directory))}
rmdir results 2>/dev/null
${removeEmpty(directory)}
exit 0
`;
}

/** A line that removes a directory and then its parent, if they are empty. */
function removeEmpty(directory: string): string {
  return `rmdir ${quoteShell(directory)} 2>/dev/null && rmdir ${
    quoteShell(parentName(directory))
  } 2>/dev/null`;
}

function parentName(path: string): string {
  return path.slice(0, path.lastIndexOf("/"));
}
