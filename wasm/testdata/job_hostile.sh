#!/bin/bash
#SBATCH --job-name="it's \"a\" \\ $(job) #name"
#SBATCH --comment="100 % `id`"
#SBATCH --output="/home/u'ser/%%j $(id)/x/slurm.log"
#SBATCH --open-mode="append"
#SBATCH --partition="a b"
#SBATCH --hold
#SBATCH --gres="gpu:\"k\\80\":2"
umask 077
multicri_directory='/home/u'\''ser/%j $(id)/x'
multicri_image='/images/`id`.sif'
multicri_prerun=yes
multicri_runtime_arguments=('--no-eval' '--bind' '/a b:/c'\''d')
multicri_program=('sh' '-c' $'echo "$1"\n#PBS -l x\r\n#SBATCH --uid=0' ''\''\'\'''\''' '' $'é\177')
multicri_job=${SLURM_JOB_ID:-none}
export SLURM_HINT_X=''\''; id #'
# From here on the text is the same in every job.
readonly multicri_directory multicri_image multicri_prerun multicri_runtime_arguments multicri_program
readonly multicri_job

# multicri_write NAME LINE…: puts status/NAME in place as a whole, by a temporary file and a rename.
multicri_write() {
  local name=$1 temporary=status/.$1.$multicri_job
  shift
  printf '%s\n' "$@" >"$temporary" && mv -f -- "$temporary" "status/$name"
}

# multicri_finish CODE [ERROR]: writes status/exit and ends with CODE. ERROR says why the program never ran.
multicri_finish() {
  local lines tries=0
  trap - EXIT
  trap '' TERM INT HUP QUIT USR1 USR2
  lines=("job=$multicri_job" "code=$1" "time=$(date +%s.%N)")
  if [[ -n ${2-} ]]; then
    lines+=("error=$(printf '%s' "${2:0:1000}" | tr -s '[:cntrl:]' ' ')")
  fi
  # A file system that is full or away for a moment must not cost the exit code.
  until multicri_write exit "${lines[@]}"; do
    ((++tries < 5)) || break
    sleep 2
  done
  exit "$1"
}

# multicri_pass SIGNAL: hands a signal on to the runtime, once for each time it comes.
# shellcheck disable=SC2317 # called by the traps
multicri_pass() {
  multicri_interrupted=yes
  if [[ -n $multicri_child ]]; then
    multicri_deliver "$1"
  elif [[ -z $multicri_early && $1 != USR? ]]; then
    multicri_early=$1
  fi
}

# multicri_deliver SIGNAL: sends it when it can arrive, at the latest after 10 s.
multicri_deliver() {
  local tries=0
  until multicri_reachable || ((++tries > 200)); do
    sleep 0.05
  done
  kill -s "$1" "$multicri_child" 2>/dev/null
}

# multicri_reachable: false while Apptainer builds the container up. Until its init process ("appinit", "sinit")
# or the program itself is there, it takes signals and loses them; before and after, none is lost.
multicri_reachable() {
  local name pid children=()
  read -r name <"/proc/$multicri_child/comm" || return 0
  [[ $name == starter* ]] || return 0
  read -r -a children <"/proc/$multicri_child/task/$multicri_child/children"
  for pid in "${children[@]}"; do
    read -r name <"/proc/$pid/comm" || continue
    case $name in
      starter* | squashfuse* | fuse* | gocryptfs) ;;
      *) return 0 ;;
    esac
  done
  return 1
} 2>/dev/null
multicri_child=
multicri_early=
for multicri_signal in TERM INT HUP QUIT USR1 USR2; do
  # shellcheck disable=SC2064 # the signal's name is wanted as it is now
  trap "multicri_pass $multicri_signal" "$multicri_signal"
done

if ! cd -- "$multicri_directory"; then
  printf 'multicri: cannot enter the directory of the container\n' >&2
  exit 125
fi
mkdir -p status

# The claim is a link whose target is the job's id: made with its content in one step, or not at all. A second
# job for the same container leaves everything as it is; a requeued run of the same job goes on.
if ! ln -s -n -- "$multicri_job" status/claim 2>/dev/null; then
  multicri_owner=$(readlink -- status/claim)
  if [[ -z $multicri_owner ]]; then
    multicri_finish 125 "status/claim can be neither made nor read in $multicri_directory"
  elif [[ $multicri_owner != "$multicri_job" ]]; then
    printf 'multicri: job %s runs this container; job %s does nothing\n' "$multicri_owner" "$multicri_job"
    exit 0
  fi
fi
rm -f -- status/exit "status/.refused.$multicri_job"
trap 'multicri_finish "$?" "the job script ended before its program did"' EXIT

# What the submitting shell had set for containers is not the pod's.
unset -v "${!APPTAINERENV_@}" "${!SINGULARITYENV_@}"

if [[ -n $multicri_early ]]; then
  multicri_finish "$((128 + $(kill -l "$multicri_early")))" "SIG$multicri_early came before the program was started"
fi
multicri_time=$(date +%s.%N)

# With job control the program does not inherit that INT and QUIT are ignored, as it would from a plain "&".
set -m
(
  set +m
  multicri_refuse() {
    printf '%s' "$2" >"status/.refused.$multicri_job"
    exit "$1"
  }
  if [[ $multicri_prerun == yes ]]; then
    # Stays there if the prerun ends this shell.
    printf 'prerun.sh ended the job' >"status/.refused.$multicri_job"
    # shellcheck source=/dev/null
    . ./prerun.sh
    multicri_code=$?
    ((multicri_code == 0)) || multicri_refuse "$multicri_code" "prerun.sh ended with code $multicri_code"
    set +eufx
    IFS=$' \t\n'
    cd -- "$multicri_directory" || exit 125
    : >"status/.refused.$multicri_job"
  fi
  # shellcheck source=/dev/null
  . ./env || multicri_refuse 125 "the file env with the container's variables cannot be read"
  multicri_runtime=$(type -P apptainer || type -P singularity) ||
    multicri_refuse 125 "neither apptainer nor singularity is in PATH ($PATH) on $HOSTNAME"
  if [[ ${multicri_runtime##*/} == singularity ]]; then
    # SingularityCE knows the variables under its own name only.
    for multicri_name in "${!APPTAINERENV_@}"; do
      export "SINGULARITYENV_${multicri_name#APPTAINERENV_}=${!multicri_name}"
      unset -v "$multicri_name"
    done
  fi
  [[ -r $multicri_image ]] || multicri_refuse 125 "the image $multicri_image cannot be read on $HOSTNAME"
  { : >>stdout && : >>stderr; } || multicri_refuse 125 "stdout and stderr cannot be written in $multicri_directory"
  set -- "${multicri_program[@]}"
  # shellcheck disable=SC2154 # set by env
  if ((${#multicri_argv_environment[@]} > 0)); then
    set -- env -- "${multicri_argv_environment[@]}" "$@"
  fi
  # What other container runtimes give a program.
  umask 022
  shopt -s execfail
  exec "$multicri_runtime" --silent exec "${multicri_runtime_arguments[@]}" "$multicri_image" "$@" >>stdout 2>>stderr
  multicri_refuse 125 "$multicri_runtime cannot be run on $HOSTNAME"
) </dev/null &
multicri_child=$!
set +m
if [[ -n $multicri_early ]]; then
  multicri_deliver "$multicri_early"
fi
multicri_write start "job=$multicri_job" "host=${SLURMD_NODENAME:-$HOSTNAME}" "pid=$multicri_child" "time=$multicri_time"

# `wait` returns early when a signal comes; only one that was left alone tells the program's own code.
multicri_interrupted=yes
while [[ $multicri_interrupted == yes ]]; do
  multicri_interrupted=no
  wait "$multicri_child"
  multicri_code=$?
done
multicri_child=

multicri_error=
if [[ -s status/.refused.$multicri_job ]]; then
  multicri_error=$(<"status/.refused.$multicri_job")
  # Nothing ran, so nothing succeeded.
  ((multicri_code != 0)) || multicri_code=125
elif ((multicri_code == 255)); then
  # Apptainer ends so, with this as its last words, when it cannot start the program.
  multicri_last=$(tail -c 4096 stderr | tail -n 1 | tr -d '\0')
  [[ $multicri_last != 'FATAL:   '* ]] || multicri_error="the container runtime says: ${multicri_last#FATAL:   }"
fi
rm -f -- "status/.refused.$multicri_job"
multicri_finish "$multicri_code" "$multicri_error"
