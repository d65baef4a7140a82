# From here on the text is the same in every job.
#
# What the container uses, read from /proc of its node, so that nobody else has to ask there: a step of the job for
# every look would cost Slurm more than the job itself.

# More processes than this are not looked at, so that a look takes some 100 ms at most.
readonly multicri_most_processes=4096
multicri_ticks=0

# multicri_measure: sums over the runtime's process and all that descend from it; false when that is gone. A parent
# is read before its children: the time of a child that ends in between is missing from one look, never counted twice.
multicri_measure() {
  local queue=("$multicri_runtime_pid") pid task stat resident shared children index=0
  local ticks=0 pages=0 own=0 minor=0 major=0 processes=0
  while ((index < ${#queue[@]} && index < multicri_most_processes)); do
    pid=${queue[index++]}
    read -r stat <"/proc/$pid/stat" || continue
    read -r _ resident shared _ <"/proc/$pid/statm" || continue
    # The fields of proc_pid_stat(5) from the third on; what stands before may hold anything.
    # shellcheck disable=SC2086,SC2295 # numbers and one letter
    set -- ${stat##*) }
    # Times and faults of children that have been waited for are in their parent's own.
    ((ticks += ${12} + ${13} + ${14} + ${15}, minor += $8 + $9, major += ${10} + ${11}, processes += 1))
    ((pages += resident, own += resident - shared))
    for task in "/proc/$pid/task/"*/children; do
      read -r -a children <"$task"
      queue+=("${children[@]}")
    done
  done
  # Only the total of what ended unseen, which nobody waited for, could make it smaller.
  ((ticks > multicri_ticks)) && multicri_ticks=$ticks
  multicri_usage=(
    "time=$(date +%s.%N)"
    "cpu=$((multicri_ticks * (1000000000 / multicri_hertz)))"
    "resident=$((pages * multicri_page))"
    "own=$((own * multicri_page))"
    "minor=$minor"
    "major=$major"
    "processes=$processes"
  )
  ((processes > 0))
} 2>/dev/null

# multicri_report: writes status/usage a second after the start, then at growing intervals up to
# $multicri_usage_seconds, until a line comes to $multicri_bell.
multicri_report() {
  local multicri_page multicri_hertz multicri_usage pause=1
  trap '' TERM INT HUP QUIT USR1 USR2
  multicri_page=$(getconf PAGESIZE) && multicri_hertz=$(getconf CLK_TCK) || return
  while
    read -r -t "$pause" -u "$multicri_bell"
    # Nothing came.
    (($? > 128))
  do
    multicri_measure || return
    multicri_write usage "${multicri_usage[@]}" 2>/dev/null
    ((pause *= 2, pause <= multicri_usage_seconds)) || pause=$multicri_usage_seconds
  done
}

