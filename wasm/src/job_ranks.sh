# The ranks of an MPI job. A launcher (mpirun, srun) starts this script again for each rank, and that puts the container
# around the program. So the pod's words and variables never pass through the launcher, to which a word like ":" means
# something, and which may pass on none.

# multicri_prepare_ranks: makes multicri_words start the launcher in place of the runtime.
multicri_prepare_ranks() {
  multicri_load_module
  # sbatch --export=NONE would keep PATH and all that modules set from the ranks.
  unset -v SLURM_EXPORT_ENV
  type -P "${multicri_launcher[0]}" >/dev/null ||
    multicri_refuse 125 "${multicri_launcher[0]} is not in PATH ($PATH) on $HOSTNAME: load a module that has it in CLUSTER_CONFIG, or name one by MPI_VERSION"
  multicri_words=("${multicri_launcher[@]}" bash "$multicri_directory/job.sh" rank)
}

# multicri_load_module: loads the launcher's module where there are modules. A version alone, which the site's module
# may not bear, is only a wish: then the launcher of PATH serves, as CLUSTER_CONFIG left it.
multicri_load_module() {
  local name=$multicri_module words
  [[ -n $name ]] || return 0
  multicri_know_modules
  type module >/dev/null 2>&1 || return 0
  [[ $name == [[:alpha:]]* ]] || name=openmpi/$name
  # Some versions of `module` fail with a message only.
  if words=$(module load "$name" 2>&1) && [[ $words != *ERROR:* && $words != *error:* ]]; then
    module load "$name" 2>/dev/null
  elif [[ $name == "$multicri_module" ]]; then
    multicri_refuse 125 "the module $name of MPI_VERSION cannot be loaded on $HOSTNAME: $words"
  fi
}

# multicri_become_rank: one rank, on whichever node. What the launcher tells it by its environment is for the program
# too, but not where things of MPI lie on the node.
multicri_become_rank() {
  local name node
  # multicri_refuse CODE ERROR: ends without having started the program.
  multicri_refuse() {
    printf 'multicri: a rank cannot be started: %s\n' "$2" >&2
    exit "$1"
  }
  cd -- "$multicri_directory" || multicri_refuse 125 "$multicri_directory cannot be entered on $HOSTNAME"
  for name in "${!PMI@}" "${!PRTE_@}" "${!OMPI_@}" "${!MPI_@}" "${!MPIR_@}" "${!MPICH_@}" "${!I_MPI_@}" "${!MV2_@}" \
    "${!UCX_@}" "${!FI_@}" "${!PSM@}" "${!HYDI_@}" "${!SLURM_@}"; do
    case $name in
      *_ROOT | *_PATH | *_PREFIX | SLURM_CONF* | SLURM_JWT) ;;
      # What mpirun starts its ranks by is a step of its own, whose numbers are not theirs.
      SLURM_*) [[ ${multicri_launcher[0]} != srun ]] || export "APPTAINERENV_$name=${!name}" ;;
      *) export "APPTAINERENV_$name=${!name}" ;;
    esac
  done
  # In place of the home that is not shown.
  multicri_home=(--scratch "$HOME")
  # The pod's variables win.
  multicri_prepare
  # The variable HOSTNAME may be that of the node that the launcher runs on.
  read -r node </proc/sys/kernel/hostname
  printf '%s\n' "$$" >>"status/ranks.$node" ||
    multicri_refuse 125 "status/ranks.$node cannot be written in $multicri_directory"
  # Whoever signals the ranks writes this before he reads which there are.
  if read -r name <status/ending; then
    exit "$((128 + $(kill -l "$name")))"
  fi 2>/dev/null
  multicri_look_at_volumes
  exec "${multicri_words[@]}"
}

# multicri_deliver_to_ranks SIGNAL: to every rank on every node. A launcher would pass it on and end its ranks a moment
# later, whatever they are still doing.
multicri_deliver_to_ranks() {
  local nodes=${SLURM_JOB_NUM_NODES:-1} name
  # USR1 and USR2 are warnings; the others are meant to end the job, also what of it has yet to start.
  [[ $1 == USR? ]] || printf '%s\n' "$1" >status/ending
  if ((nodes == 1)); then
    bash "$multicri_directory/job.sh" signal "$1"
    return
  fi
  (
    for name in "${!SLURM_@}"; do
      [[ $name == SLURM_CONF* ]] || unset -v "$name"
    done
    srun --quiet --overlap --jobid="$multicri_job" --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1 --mpi=none \
      bash "$multicri_directory/job.sh" signal "$1"
  ) </dev/null || kill -s "$1" "$multicri_runtime_pid"
}

# multicri_signal_ranks SIGNAL: to those on this node. Without any, the launcher has still to start them or has ended.
multicri_signal_ranks() {
  local node pid key parent environment pids=()
  cd -- "$multicri_directory" || exit
  read -r node </proc/sys/kernel/hostname
  [[ ! -e status/ranks.$node ]] || mapfile -t pids <"status/ranks.$node"
  for pid in "${pids[@]}"; do
    # A process id may be somebody else's by now: of ours, the parent, where it may be looked at, belongs to the job.
    while read -r key parent && [[ $key != PPid: ]]; do :; done <"/proc/$pid/status" || continue
    environment=$(tr '\0' '\n' <"/proc/$parent/environ")
    [[ -z $environment || $'\n'$environment$'\n' == *$'\n'SLURM_JOB_ID=$multicri_job$'\n'* ]] || continue
    multicri_runtime_pid=$pid
    multicri_deliver "$1" &
  done 2>/dev/null
  wait
  exit 0
}

