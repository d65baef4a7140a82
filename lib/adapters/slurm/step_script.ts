/** The script of the login host that runs a program as a step of a job; see `cluster_scripts.ts`. */
import { quoteShell } from "../../../wasm/core.ts";

/**
 * A Perl program that reads the one to run from stdin: its length in bytes, a newline, its text. The shell of the
 * login host reads scripts byte by byte, which would take 10 ms for a program of this size.
 */
export const READ_PROGRAM = String.raw`
my ($length, $byte, $program) = ("", "", "");
while (sysread(STDIN, $byte, 1) && $byte ne "\n") { $length .= $byte }
while (length $program < $length) {
  sysread(STDIN, $program, $length - length $program, length $program) or exit 0;
}
eval $program;
die $@ if $@;
`;

/**
 * Runs READ_PROGRAM as a step of the job on `host`, or on the job's first node, which its script runs on; the program's
 * stdin follows. The step shares the job's resources. What a login sets for srun and perl is taken away where it could
 * change the bytes.
 */
export function stepScript(jobId: string, host: string | undefined): string {
  const place = host === undefined ? "--relative=0" : `--nodelist=${quoteShell(host)}`;
  return `
unset SLURM_LABELIO SLURM_UNBUFFEREDIO SLURM_STDINMODE SLURM_STDOUTMODE SLURM_STDERRMODE SLURM_EXPORT_ENV
unset SLURM_NNODES SLURM_NTASKS SLURM_NPROCS SLURM_CPUS_PER_TASK SLURM_HINT SLURM_DISTRIBUTION
unset PERL5LIB PERL5OPT PERLLIB PERL5DB PERL_UNICODE PERLIO
export LC_ALL=C
exec srun --quiet --overlap --jobid=${quoteShell(jobId)} ${place} --nodes=1 --ntasks=1 --mpi=none \\
  perl -e ${quoteShell(READ_PROGRAM)}
`;
}
