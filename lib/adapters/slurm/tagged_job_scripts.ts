/** Scripts of the login host about jobs that carry our tag, whoever submitted them; see `cluster_scripts.ts`. */
import { quoteShell } from "../../../wasm/core.ts";
import { SUBMIT_EXIT } from "./cluster_scripts.ts";

/** Kills a job and waits until Slurm no longer has it; fails when it is still there after 30 s. */
export function endJobScript(jobId: string): string {
  const job = quoteShell(jobId);
  return `
scancel --signal=KILL --full ${job} 2>/dev/null
scancel ${job} 2>/dev/null
for second in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
  alive=$(squeue --noheader --user="$(id -un)" --format=%A) || exit ${SUBMIT_EXIT.TRY_AGAIN}
  printf '%s\\n' "$alive" | grep -qx ${job} || exit 0
  sleep 1
done
exit 1
`;
}

/**
 * Everything of ours on the account: lines id|state|directory|comment of Slurm's jobs, `--`, and lines
 * id|directory|comment of containers' directories.
 */
export function taggedJobsScript(mountPath: string): string {
  return `
squeue --noheader --user="$(id -un)" --format='%A|%T|%Z|%k' || exit ${SUBMIT_EXIT.TRY_AGAIN}
echo --
cd "$HOME"/${quoteShell(mountPath)} 2>/dev/null || exit 0
for script in */*/job.sh; do
  [ -f "$script" ] || continue
  directory=\${script%/job.sh}
  printf '%s|%s|' "$(cat "$directory/jobid" 2>/dev/null)" "$PWD/$directory"
  sed -n '/^#SBATCH --comment=/{s///p;q;}' "$script"
  echo
done
`;
}
