/** Scripts of the login host about jobs that the containers of a pod share; see `cluster_scripts.ts`. */
import { basename } from "@std/path";
import { quoteShell } from "../../../wasm/core.ts";
import { type Allocation, allocationName, stepName } from "./allocation.ts";

/**
 * Lines that define `join_allocation`: it asks the pod's job to run a container, submits that job if there is none that
 * lives, and sets $job to its id. Repeated for one container, it asks once.
 *
 * Each job has a directory of its own, so that one that is just ending meddles with no other. It returns 1 when the
 * job is refused, 2 when Slurm cannot be asked or somebody else is at it, 3 when a file cannot be written.
 */
export function defineJoinAllocation(allocation: Allocation, containerId: string): string {
  const { sandboxDirectory, jobName, options, carrier } = allocation;
  const id = quoteShell(containerId);
  return `
join_allocation() {
  cd ${quoteShell(sandboxDirectory)} || return 3
  if command -v flock >/dev/null 2>&1; then
    exec 8>allocation.lock || return 3
    flock -w 30 8
    [ $? -ne 1 ] || return 2
  fi
  job=$(squeue --noheader --user="$(id -un)" --name=${
    quoteShell(jobName)
  } --format='%A %T') || return 2
  job=$(printf '%s\\n' "$job" | sed -n -E 's/^([0-9]+) (PENDING|CONFIGURING|RUNNING|SUSPENDED)$/\\1/p' | head -n 1)
  if [ -n "$job" ]; then
    [ ! -e allocation/started/${id} ] || return 0
    # A job that is about to end has taken this directory away.
    if touch allocation/start/${id} 2>/dev/null; then return 0; fi
  fi
  place=allocation.${id}
  rm -rf "$place"
  mkdir "$place" "$place/start" "$place/started" || return 3
  printf '%s' ${quoteShell(carrier)} >"$place/carrier.sh" || return 3
  touch "$place/start/"${id} || return 3
  ln -s -n -f "$place" allocation || return 3
  job=$(sbatch --parsable ${
    options.map((option) => quoteShell(option)).join(" ")
  } "$place/carrier.sh" "$PWD/$place" </dev/null 8>&- 9>&-) || return 1
  job=\${job%%;*}
}
`;
}

/**
 * Sends a signal to one container of a pod's job, and to nothing else: TERM to its job script, which passes it on once,
 * KILL to all of its step. A container that the job has not begun yet never begins. What Slurm says is on stderr.
 *
 * Without the container's directory, which somebody removed, its step is found by its name, and its end, which it
 * cannot tell any more, is written into a new one.
 */
export function signalStepScript(
  directory: string,
  jobId: string,
  signal: "TERM" | "KILL",
): string {
  const id = quoteShell(basename(directory));
  const job = quoteShell(jobId);
  const code = signal === "TERM" ? 143 : 137;
  const name = quoteShell(stepName(basename(directory)));
  return `
umask 077
tell_end() {
  printf '%s\\n' job=${job} code=${code} "time=$(date +%s.%N)" signal=${signal} >status/.stopped &&
    mv -f status/.stopped status/exit
}
cd ${quoteShell(directory)} 2>/dev/null || {
  steps=$(squeue --noheader --steps --user="$(id -un)" --format='%i %j') || exit 0
  step=$(printf '%s\\n' "$steps" | while read -r id step; do [ "$step" != ${name} ] || echo "$id"; done)
  [ -z "$step" ] || scancel --signal=${signal} $step
  ${
    signal === "KILL"
      ? `mkdir -p ${quoteShell(`${directory}/status`)} && cd ${quoteShell(directory)} && tell_end`
      : ":"
  }
  exit 0
}
for try in 1 2 3 4 5 6 7 8 9 10; do
  [ ! -e status/exit ] || exit 0
  if rm ../allocation/start/${id} 2>/dev/null; then
    tell_end
    exit 0
  fi
  [ ! -e status/step ] || break
  sleep 0.5
done
{ read -r step && read -r pid; } <status/step || {
  echo 'the step of the container has not begun' >&2
  exit 0
}
${
    signal === "KILL"
      ? `scancel --signal=KILL ${job}."$step"`
      : `srun --quiet --overlap --jobid=${job} --nodes=1 --ntasks=1 --mpi=none --input=none \\
  kill -s TERM "$pid"`
  }
exit 0
`;
}

/**
 * Ends the job of a pod whose containers have all ended; nothing when there is none. Without its directory, by its
 * name.
 */
export function endAllocationScript(sandboxDirectory: string): string {
  const name = allocationName(basename(sandboxDirectory));
  return `
cd ${quoteShell(`${sandboxDirectory}/allocation`)} 2>/dev/null || {
  scancel --user="$(id -un)" --name=${quoteShell(name)}
  exit 0
}
touch end || exit 1
scancel --state=PENDING --user="$(id -un)" --name=${quoteShell(name)}
exit 0
`;
}
