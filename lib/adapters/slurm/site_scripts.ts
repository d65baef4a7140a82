/** Scripts that look at what a cluster offers: on the login host, and in a job of their own on a node. */
import { quoteShell, type SlurmOption } from "../../../wasm/core.ts";

/** A queue that gives nothing in this time is taken for full. */
export const QUEUE_WAIT_S = 120;
/** Files that come later than this from a node are not waited for. */
const LATE_LIMIT_TENTHS = 600;

/** A command of Slurm that tells nothing for so long is not waited for: a busy controller answers within seconds. */
const ANSWER_WAIT_S = 30;

/** Prints lines `name=value` about the login host and what Slurm tells there. */
export const LOGIN_SCRIPT = `
tell() { printf '%s=%s\\n' "$1" "$(printf '%s' "$2" | tr '\\n' ' ' | cut -c 1-300)"; }
bound=
! command -v timeout >/dev/null 2>&1 || bound='timeout ${ANSWER_WAIT_S}'
missing=
for tool in sbatch squeue scancel scontrol tar base64 sha256sum; do
  command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"
done
tell missing "$missing"
tell srun "$(command -v srun)"
tell slurm "$($bound sbatch --version 2>&1)"
tell home "$HOME"
tell filesystem "$(stat -f -c %T "$HOME" 2>/dev/null)"
tell free "$(df -Pk "$HOME" 2>/dev/null | awk 'NR == 2 { print $4 }')"
config=$($bound scontrol show config 2>/dev/null)
tell config "$(printf '%s\\n' "$config" | grep -c '^ProctrackType')"
tell tracking "$(printf '%s\\n' "$config" | sed -n 's/^ProctrackType *= *//p')"
tell accounting "$($bound sacct --noheader --allocations --jobs=1 2>&1 >/dev/null
  [ $? -ne 124 ] || echo 'nothing for ${ANSWER_WAIT_S} s')"
tell flock "$(command -v flock)"
tell builder "$(command -v apptainer || command -v singularity)"
exit 0
`;

/** The job that looks at its node; it leaves lines `name=value` in the file \`node\` and waits to be ended. */
export const NODE_JOB = `#!/bin/bash
tell() { printf '%s=%s\\n' "$1" "$(printf '%s' "$2" | tr '\\n' ' ' | cut -c 1-300)" >>node.part; }
cd -- "$SITE_CHECK_DIRECTORY" || exit
tell host "\${SLURMD_NODENAME:-$HOSTNAME}"
if [[ -e prerun.sh ]]; then
  # NAME: how the prerun ended, and the last line that it wrote.
  tell_prerun() {
    cd -- "$SITE_CHECK_DIRECTORY" && tell "$1" "$2" && tell prerun_words "$(tail -n 1 prerun.log)"
  }
  trap 'tell_prerun prerun_exit "$?"; mv node.part node' EXIT
  { . /etc/profile >/dev/null 2>&1; . ./prerun.sh; } >prerun.log 2>&1
  tell_prerun prerun "$?"
  trap - EXIT
  set +eufx
  cd -- "$SITE_CHECK_DIRECTORY" || exit
fi
missing=
for tool in cat date ln mkdir mktemp mv readlink rm; do
  type -P "$tool" >/dev/null || missing+=" $tool"
done
tell node_missing "$missing"
missing=
for tool in getconf grep mkfifo realpath tail tr; do
  type -P "$tool" >/dev/null || missing+=" $tool"
done
tell node_wanted "$missing"
tell perl "$(type -P perl)"
runtime=$(type -P apptainer || type -P singularity)
tell runtime "$runtime"
[[ -z $runtime ]] || tell runtime_version "$("$runtime" --version 2>/dev/null)"
library=$("$runtime" buildcfg 2>/dev/null | sed -n 's/^LIBEXECDIR=//p')
[[ -n $(find "$library"/*/bin/starter-suid -perm -4000 2>/dev/null) ]] && tell setuid yes
tell userns "\${APPTAINER_USERNS:-}\${SINGULARITY_USERNS:-}"
unshare --user --map-root-user true 2>/dev/null && tell namespaces yes
[[ -r /dev/fuse && -w /dev/fuse ]] && tell fuse yes
tell squashfuse "$(type -P squashfuse_ll || type -P squashfuse || ls "$library"/*/bin/squashfuse* 2>/dev/null)"
# A container without an image: the node's own programs in an empty directory.
binds=()
mkdir -p root/{dev,proc,sys,tmp,etc,home,root,var/tmp}
for directory in bin usr lib lib64; do
  [[ ! -d /$directory ]] || { mkdir "root/$directory" && binds+=(--bind "/$directory:/$directory:ro"); }
done
if [[ -n $runtime ]]; then
  words=$("$runtime" --silent exec --no-eval --containall "\${binds[@]}" root /bin/true 2>&1 </dev/null)
  tell container "$? $words"
fi
tell mpirun "$(type -P mpirun)"
tell modules "$(bash -lc 'type module >/dev/null 2>&1 && echo yes' 2>/dev/null)"
tell mpi_types "$(srun --mpi=list 2>&1)"
# As a job's script chooses it.
scratch=/tmp
[[ \${TMPDIR-} != /* || ! -d $TMPDIR || ! -w $TMPDIR ]] || scratch=$TMPDIR
tell scratch "$scratch"
tell scratch_free "$(df -Pk "$scratch" 2>/dev/null | awk 'NR == 2 { print $4 }')"
mv node.part node
for ((second = 0; second < 90; second++)); do
  [[ -e node ]] || exit 0
  sleep 1
done
`;

/**
 * Submits NODE_JOB, whose files come as a tar archive on stdin, with these options; prints what it found, and lines
 * of its own. Leaves nothing behind.
 */
export function nodeScript(mountPath: string, options: readonly SlurmOption[]): string {
  const words = options.map(({ name, value }) =>
    quoteShell(value === undefined ? `--${name}` : `--${name}=${value}`)
  );
  return `
umask 077
directory=$HOME/${quoteShell(mountPath)}/.site-check.$$
tell() { printf '%s=%s\\n' "$1" "$(printf '%s' "$2" | tr '\\n' ' ' | cut -c 1-300)"; }
words=$({ mkdir -p "$directory" && cd "$directory" && tar -xpf -; } 2>&1) && cd "$directory" || {
  rm -rf "$directory"
  tell unwritable "$words"
  exit 0
}
export SITE_CHECK_DIRECTORY="$directory"
job=
trap '[ -z "$job" ] || scancel "$job" 2>/dev/null; cd /; rm -rf "$directory"' EXIT
trap 'exit 143' TERM HUP INT
job=$(sbatch --parsable --job-name=multicri-site-check --output=slurm.log --time=3 ${
    words.join(" ")
  } job.sh </dev/null 2>refusal) ||
  { tell refused "$(cat refusal)"; exit 0; }
job=\${job%%;*}
waited=0
until [ -e node ]; do
  if [ "$waited" -ge ${QUEUE_WAIT_S} ]; then
    tell waits "$(squeue --noheader --states=all --jobs="$job" --format='%T %r' 2>&1)"
    exit 0
  fi
  sleep 1
  waited=$((waited + 1))
done
cat node
! grep -q '^prerun_exit=' node || exit 0
# As whoever waits for a job does: a client of a network file system remembers for a while that there was nothing.
[ ! -e fresh ] || exit 1
words=$(srun --quiet --overlap --jobid="$job" --nodes=1 --ntasks=1 --mpi=none sh -c 'echo 1 >fresh' 2>&1 </dev/null)
code=$?
tell overlap "$code $words"
[ "$code" -eq 0 ] || exit 0
tenths=0
until [ -s fresh ] || [ "$tenths" -ge ${LATE_LIMIT_TENTHS} ]; do
  sleep 0.1
  tenths=$((tenths + 1))
done
tell late "$tenths"
exit 0
`;
}
