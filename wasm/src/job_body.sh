# Three processes work together: this shell hands signals on, a second one (the keeper) waits for the third, which
# runs the prerun and becomes the container's runtime. bash's `wait` can lose the code of a program that ends
# just as a signal comes; the keeper handles no signal, so its code is exact.
readonly multicri_directory multicri_image multicri_prerun multicri_runtime_arguments multicri_program
readonly multicri_job multicri_usage_seconds multicri_launcher multicri_module

# multicri_write NAME LINE…: puts status/NAME in place as a whole, by a temporary file and a rename.
multicri_write() {
  local name=$1 temporary=status/.$1.$multicri_job
  shift
  printf '%s\n' "$@" >"$temporary" && mv -f -- "$temporary" "status/$name"
}

# multicri_announce: leaves word that files in status/ have changed, in the one folder that whoever watches the jobs
# lists often. Only a hint: without it they are read somewhat later.
multicri_announce() {
  : >"../../.news/${multicri_directory##*/}"
} 2>/dev/null

# multicri_finish CODE [ERROR]: writes status/exit and ends with CODE. ERROR says why the program never ran; the last
# signal that came is told too, because Slurm may know why it did.
multicri_finish() {
  local lines tries=0
  trap - EXIT
  trap '' TERM INT HUP QUIT USR1 USR2
  lines=("job=$multicri_job" "code=$1" "time=$(date +%s.%N)")
  [[ -z $multicri_got ]] || lines+=("signal=$multicri_got")
  [[ -z ${2-} ]] || lines+=("error=$2")
  # A file system that is full or away for a moment must not cost the exit code.
  until multicri_write exit "${lines[@]}"; do
    ((++tries < 5)) || break
    sleep 2
  done
  multicri_announce
  # Only now: it may take long, and whoever waits for the end need not.
  [[ -z $multicri_scratch ]] || multicri_remove_tree "$multicri_scratch"
  exit "$1"
}

# multicri_pass SIGNAL: hands a signal on to the runtime, once for each time it comes.
# shellcheck disable=SC2317 # called by the traps
multicri_pass() {
  multicri_got=$1
  if [[ -n $multicri_runtime_pid ]]; then
    multicri_deliver "$1"
  else
    multicri_pending+=("$1")
  fi
}

# multicri_deliver SIGNAL: sends it when it can arrive, at the latest after 10 s.
multicri_deliver() {
  local tries=0 own name children=()
  if [[ $multicri_mode == job ]] && ((${#multicri_launcher[@]} > 0)); then
    multicri_deliver_to_ranks "$1" &
    return
  fi
  until multicri_reachable || ((++tries > 200)); do
    sleep 0.05
  done
  {
    read -r own <"/proc/$$/comm"
    read -r name <"/proc/$multicri_runtime_pid/comm"
    # Still a shell with the prerun: what it runs must end with it.
    if [[ $name == "$own" ]]; then
      read -r -a children <"/proc/$multicri_runtime_pid/task/$multicri_runtime_pid/children"
    fi
    kill -s "$1" "$multicri_runtime_pid" "${children[@]}"
  } 2>/dev/null
}

# multicri_reachable: false while Apptainer builds the container up. Until its init process ("appinit", "sinit")
# or the program itself is there, it takes signals and loses them; before and after, none is lost.
multicri_reachable() {
  local name pid children=()
  read -r name <"/proc/$multicri_runtime_pid/comm" || return 0
  [[ $name == starter* ]] || return 0
  read -r -a children <"/proc/$multicri_runtime_pid/task/$multicri_runtime_pid/children"
  for pid in "${children[@]}"; do
    read -r name <"/proc/$pid/comm" || continue
    case $name in
      starter* | squashfuse* | fuse* | gocryptfs) ;;
      *) return 0 ;;
    esac
  done
  return 1
} 2>/dev/null

# multicri_tell KEY=VALUE: tells this shell from one of the others, on one line.
multicri_tell() {
  local line=${1:0:1000}
  printf '%s\n' "${line//[[:cntrl:]]/ }" >&"$multicri_pipe"
}

# multicri_hear: reads one such line; false when none has come within a second.
multicri_hear() {
  local line
  read -r -t 1 -u "$multicri_pipe" line || return 1
  case $line in
    pid=*) multicri_runtime_pid=${line#*=} ;;
    error=*) multicri_error=${line#*=} ;;
    stdio=*) multicri_stdio_pid=${line#*=} ;;
    scratch=*)
      multicri_scratch=${line#*=}
      multicri_lock_scratch
      # Beside the program: it may take long.
      multicri_remove_left_scratch &
      ;;
    code=*) multicri_code=${line#*=} ;;
    written) ((++multicri_written)) ;;
  esac
}

# multicri_keep FILE: appends stdin to it to the end, and tells so. What a full file system does not take is dropped:
# the program goes on.
multicri_keep() {
  trap '' TERM INT HUP QUIT USR1 USR2
  { until cat; do :; done; } >>"$1" || cat >/dev/null
  multicri_tell written
}

# multicri_know_modules: makes the command `module` known. A login shell has it, but a job has what the shell had that
# submitted it, which was none.
multicri_know_modules() {
  local file
  for file in /etc/profile.d/{,z00_,00-}{lmod,modules}.sh /usr/share/{lmod/lmod,modules}/init/bash; do
    ! type module || return 0
    # shellcheck source=/dev/null
    [[ ! -r $file ]] || . "$file"
  done
} >/dev/null 2>&1

# multicri_prepare: sets multicri_words to the runtime and all its arguments, and what it finds in its environment.
multicri_prepare() {
  local runtime version name least=3.10
  # shellcheck source=/dev/null
  . ./env || multicri_refuse 125 "the file env with the container's variables cannot be read"
  runtime=$(type -P apptainer || type -P singularity) ||
    multicri_refuse 125 "neither apptainer nor singularity is in PATH ($PATH) on $HOSTNAME"
  # Older ones lack --no-eval, without which a shell evaluates the values of variables.
  version=$("$runtime" --version 2>/dev/null)
  [[ $version != apptainer* ]] || least=1.1
  if [[ $version =~ ([0-9]{1,4})\.([0-9]{1,4}) ]] &&
    ((10#${BASH_REMATCH[1]} * 10000 + 10#${BASH_REMATCH[2]} < ${least%.*} * 10000 + ${least#*.})); then
    multicri_refuse 125 "the container runtime on $HOSTNAME is too old: it must be Apptainer 1.1, SingularityCE 3.10 or newer, and $runtime is $version"
  fi
  if [[ ${runtime##*/} == singularity ]]; then
    # SingularityCE knows the variables under its own name only.
    for name in "${!APPTAINERENV_@}"; do
      export "SINGULARITYENV_${name#APPTAINERENV_}=${!name}"
      unset -v "$name"
    done
  fi
  [[ -r $multicri_image ]] || multicri_refuse 125 "the image $multicri_image cannot be read on $HOSTNAME"
  multicri_words=("$runtime" --silent exec "${multicri_home[@]}")
  multicri_can_mount "$runtime" "$version" || multicri_words+=(--unsquash)
  multicri_words+=("${multicri_runtime_arguments[@]}" "$multicri_image")
  # shellcheck disable=SC2154 # set by env
  if ((${#multicri_argv_environment[@]} > 0)); then
    multicri_words+=(env -- "${multicri_argv_environment[@]}")
  fi
  multicri_words+=("${multicri_program[@]}")
  # What other container runtimes give a program.
  umask 022
}

# multicri_can_mount RUNTIME VERSION: false where Apptainer could only fail to mount an image: users may not use FUSE,
# and it is not installed setuid, by which the kernel mounts. SingularityCE sees that by itself.
multicri_can_mount() {
  [[ ! -r /dev/fuse || ! -w /dev/fuse ]] && [[ $2 == apptainer* ]] || return 0
  [[ $("$1" buildcfg 2>/dev/null) =~ LIBEXECDIR=([^$'\n']+) ]] || return 0
  [[ -u ${BASH_REMATCH[1]}/apptainer/bin/starter-suid ]]
}

# multicri_look_at_volumes: the last thing before the runtime is started, since what programs of the pod write may change
# at any time.
multicri_look_at_volumes() {
  # shellcheck source=/dev/null
  [[ ! -e volumes.sh ]] || . ./volumes.sh || multicri_refuse 125 "volumes.sh cannot be read"
}

multicri_runtime_pid=
multicri_stdio_pid=
multicri_written=0
multicri_pending=()
multicri_got=
multicri_scratch=
multicri_home=()
case ${1-} in
  rank) multicri_mode=rank && multicri_become_rank ;;
  signal) multicri_mode=rank && multicri_signal_ranks "$2" ;;
  *) multicri_mode=job ;;
esac
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
rm -f -- status/start status/exit status/usage status/ending status/ranks.*
trap 'multicri_finish "$?" "the job script ended before its program did"' EXIT

# What the submitting shell had set for containers is not the pod's.
unset -v "${!APPTAINERENV_@}" "${!SINGULARITYENV_@}"

# A pipe without a name, and without an end to hang on: every process holds both.
exec {multicri_pipe}<> <(:)

for multicri_signal in "${multicri_pending[@]}"; do
  # USR1 and USR2 are warnings; the others are meant to end the job.
  [[ $multicri_signal == USR? ]] ||
    multicri_finish "$((128 + $(kill -l "$multicri_signal")))" "SIG$multicri_signal came before the program was started"
done
multicri_time=$(date +%s.%N)

(
  trap : TERM INT HUP QUIT USR1 USR2
  # bash's own words about a signal that ended the program are not for the log.
  exec {multicri_log}>&2 2>/dev/null
  # The program writes into pipes, as under other container runtimes: one that opens /dev/stdout by name would empty a
  # file, and what was in it would never reach the log.
  exec {multicri_stdout}> >(multicri_keep stdout)
  exec {multicri_stderr}> >(exec {multicri_stdout}>&- && multicri_keep stderr)
  (
    multicri_tell "pid=$BASHPID"
    # multicri_refuse CODE ERROR: ends without having started the program.
    multicri_refuse() {
      multicri_tell "error=$2"
      exit "$1"
    }
    if [[ $multicri_prerun == yes ]]; then
      # Holds if the prerun ends this shell, or a signal does.
      multicri_tell "error=CLUSTER_CONFIG ended the job"
      multicri_know_modules
      # What it leaves in the background must not hold the pipes open.
      eval ". ./prerun.sh $multicri_stdout>&- $multicri_stderr>&-"
      multicri_code=$?
      ((multicri_code == 0)) || multicri_refuse "$multicri_code" "CLUSTER_CONFIG ended with code $multicri_code"
      set +eufx
      IFS=$' \t\n'
      cd -- "$multicri_directory" || exit 125
      multicri_tell "error="
    fi
    { : >>stdout && : >>stderr; } || multicri_refuse 125 "stdout and stderr cannot be written in $multicri_directory"
    ((${#multicri_launcher[@]} > 0)) || multicri_make_scratch
    multicri_prepare
    ((${#multicri_launcher[@]} == 0)) || multicri_prepare_ranks
    multicri_look_at_volumes
    shopt -s execfail
    if [[ -e stdio.pl ]]; then
      # It becomes the runtime, with another stdin or on a terminal, and leaves a process that can be sent to.
      type -P perl >/dev/null || multicri_refuse 125 "stdin and tty take perl, which is not in PATH ($PATH) on $HOSTNAME"
      [[ -p stdin ]] || mkfifo -m 600 -- stdin || multicri_refuse 125 "the pipe stdin cannot be made in $multicri_directory"
      exec perl stdio.pl "$multicri_pipe" "${multicri_words[@]}" >&"$multicri_stdout" 2>&"$multicri_stderr" \
        {multicri_stdout}>&- {multicri_stderr}>&- {multicri_log}>&-
    fi
    exec "${multicri_words[@]}" >&"$multicri_stdout" 2>&"$multicri_stderr" \
      {multicri_stdout}>&- {multicri_stderr}>&- {multicri_pipe}>&- {multicri_log}>&-
    multicri_refuse 125 "${multicri_words[0]} cannot be run on $HOSTNAME"
  ) </dev/null 2>&"$multicri_log"
  multicri_code=$?
  multicri_tell "code=$multicri_code"
  exit "$multicri_code"
) &
multicri_keeper=$!

multicri_error=
multicri_code=
while [[ -z $multicri_runtime_pid ]] && kill -0 "$multicri_keeper" 2>/dev/null; do
  multicri_hear
done
for multicri_signal in "${multicri_pending[@]}"; do
  multicri_deliver "$multicri_signal"
done
multicri_write start "job=$multicri_job" "host=${SLURMD_NODENAME:-$HOSTNAME}" "pid=$multicri_runtime_pid" "time=$multicri_time"
multicri_announce
if ((multicri_usage_seconds > 0)) && [[ -n $multicri_runtime_pid ]]; then
  exec {multicri_bell}<> <(:)
  multicri_report &
  multicri_reporter=$!
fi
# What the program is given as /tmp is known when the prerun has ended.
while [[ -z $multicri_scratch$multicri_code ]] && ((${#multicri_launcher[@]} == 0)) &&
  kill -0 "$multicri_keeper" 2>/dev/null; do
  multicri_hear
done

# Each signal ends a `wait` early.
wait "$multicri_keeper"
multicri_waited=$?
while kill -0 "$multicri_keeper" 2>/dev/null; do
  wait "$multicri_keeper"
  multicri_waited=$?
done
trap '' TERM INT HUP QUIT USR1 USR2
if [[ -n ${multicri_reporter-} ]]; then
  printf '\n' >&"$multicri_bell"
  wait "$multicri_reporter"
fi
until [[ -n $multicri_code ]] || ! multicri_hear; do :; done
# Only a keeper that was killed has not told.
multicri_code=${multicri_code:-$multicri_waited}
# What the program wrote last may still be on its way to its files, or what it left behind may hold them open.
for ((multicri_tries = 0; multicri_written < 2 && multicri_tries < 5; )); do
  multicri_hear || ((++multicri_tries))
done
# The same of a terminal's program.
for ((multicri_tries = 0; multicri_tries < 100; multicri_tries++)); do
  [[ -n $multicri_stdio_pid && -e /proc/$multicri_stdio_pid/exe ]] || break
  sleep 0.05
done

if [[ -n $multicri_error ]]; then
  # Nothing ran, so nothing succeeded.
  ((multicri_code != 0)) || multicri_code=125
  if [[ $multicri_error == CLUSTER_CONFIG* && -z $multicri_got ]]; then
    # What it said stands in Slurm's file of the job alone.
    multicri_last=$(tail -c 1000 slurm.log 2>/dev/null | tail -n 1 | tr -d '\0')
    multicri_error+=${multicri_last:+: $multicri_last}
  fi
elif ((multicri_code == 255 && ${#multicri_launcher[@]} > 0)); then
  # As below; but the launcher has its own last words, and may write a rank's number before each line.
  multicri_last=$(tail -c 65536 stderr | tr -d '\0' | grep -E '^([0-9]+: )?FATAL:   ' | tail -n 1)
  [[ -z $multicri_last ]] || multicri_error="the container runtime says: ${multicri_last#*FATAL:   }"
elif ((multicri_code == 0 && ${#multicri_launcher[@]} > 0)); then
  # A file of one's own makes a client of a network file system look for others' anew.
  multicri_write launcher "${multicri_launcher[0]}"
  multicri_ranks=(status/ranks.*)
  if [[ ! -e ${multicri_ranks[0]} ]]; then
    multicri_code=125
    multicri_error="${multicri_launcher[0]} ended without having started a rank: MPI_FLAGS may hold options of it that start some, and no program"
  fi
elif ((multicri_code == 255)); then
  # Apptainer ends so, with this as its last words, when it cannot start the program. They have a line more for each
  # newline of the command or the working directory.
  multicri_said=${multicri_runtime_arguments[*]}${multicri_program[0]}
  multicri_newlines=${multicri_said//[!$'\n']/}
  for ((multicri_tries = 1; multicri_tries <= ${#multicri_newlines} + 1 && multicri_tries <= 20; multicri_tries++)); do
    multicri_last=$(tail -c 4096 stderr | tail -n "$multicri_tries" | tr -d '\0')
    [[ $multicri_last == 'FATAL:   '* ]] || continue
    multicri_error="the container runtime says: ${multicri_last#FATAL:   }"
    break
  done
fi
multicri_finish "$multicri_code" "${multicri_error//[[:cntrl:]]/ }"
