#!/bin/bash
# The job of a pod: runs its containers beside each other, each as a step. A container is asked for by an empty file
# start/<its id> in the directory that is this script's argument; its own directory is beside that one.
#
# The file `end` ends the job when no container runs. Without it the job ends when nothing has run for a while, so that
# a pod that nobody looks after any more keeps no nodes.
umask 077
cd -- "$1" || exit 125
# Above the five minutes that a kubelet waits at most before it starts a container again.
readonly idle_limit_seconds=600
readonly poll_seconds=0.5

# What the submitting shell had set for steps is not for these.
unset SLURM_LABELIO SLURM_UNBUFFEREDIO SLURM_STDINMODE SLURM_STDOUTMODE SLURM_STDERRMODE SLURM_EXPORT_ENV SLURM_HINT
unset SLURM_NTASKS SLURM_NPROCS SLURM_NTASKS_PER_NODE SLURM_CPUS_PER_TASK SLURM_MEM_PER_CPU SLURM_MEM_PER_NODE
unset SLURM_DISTRIBUTION SLURM_TRES_PER_TASK

# run_container ID: runs its job script as a step that may use all of the job, and sees to it that its end is told.
run_container() {
  local code words lines
  trap '' TERM INT HUP
  cd -- "../$1" || return
  # shellcheck disable=SC2016 # expanded in the step
  srun --quiet --overlap --job-name="multicri-$1" --nodes=1 --ntasks=1 --cpus-per-task="${SLURM_CPUS_ON_NODE:-1}" --cpu-bind=none --mem=0 \
    --mpi=none --input=none --output=slurm.log --error=slurm.log --open-mode=append \
    bash -c 'printf "%s\n%s\n" "$SLURM_STEP_ID" "$$" >status/.step && mv status/.step status/step; exec bash job.sh'
  code=$?
  [[ ! -e status/exit ]] || return
  # A step that was killed has not told, nor has one that Slurm did not begin.
  lines=("job=$SLURM_JOB_ID" "code=$code" "time=$(date +%s.%N)")
  if [[ ! -e status/step ]]; then
    words=$(tail -n 1 slurm.log | tr -d '\0')
    lines[1]=code=125
    lines+=("error=Slurm began no step for the container${words:+: ${words//[[:cntrl:]]/ }}")
  fi
  printf '%s\n' "${lines[@]}" >status/.exit && mv -- status/.exit status/exit
}

ending=
# The steps get these themselves; this script waits for their ends.
trap 'ending=yes' TERM INT HUP
exec {bell}<> <(:)
idle_since=$SECONDS
while :; do
  for request in start/*; do
    [[ -e $request ]] || continue
    # Whoever asks again sees that it was begun.
    mv -- "$request" started/ || continue
    run_container "${request##*/}" &
  done
  if [[ -n $(jobs -rp) ]]; then
    idle_since=$SECONDS
  elif [[ -n $ending || -e end ]] || ((SECONDS - idle_since > idle_limit_seconds)); then
    # From here on nobody can ask; but somebody may just have.
    mv -- start closed
    [[ -n $(ls closed) ]] || exit 0
    mv -- closed start
    continue
  fi
  read -r -t "$poll_seconds" -u "$bell"
done
