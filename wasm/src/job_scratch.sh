# What the container writes into /tmp, /var/tmp and its home directory lies in a directory of the node's disk, because
# Apptainer would keep it in 64 MiB of memory. The ranks of an MPI job have the node's own /tmp.

# multicri_make_scratch: makes it where the site, or CLUSTER_CONFIG, has jobs put such files, and has the runtime use it.
multicri_make_scratch() {
  local base=/tmp scratch node
  # One that can be told.
  if [[ ${TMPDIR-} == /* && -d $TMPDIR && -w $TMPDIR && $TMPDIR != *[[:cntrl:]]* ]] && ((${#TMPDIR} < 500)); then
    base=$TMPDIR
  fi
  # The variable HOSTNAME may be that of the host that the job was submitted from.
  read -r node </proc/sys/kernel/hostname
  scratch=$(mktemp -d -- "$base/multicri-$UID.$node.XXXXXXXXXX") ||
    multicri_refuse 125 "no directory for the container's /tmp can be made in $base on $HOSTNAME"
  multicri_tell "scratch=$scratch"
  multicri_home=(--workdir "$scratch")
}

# multicri_lock_scratch: for as long as the job's shell lives, without which Slurm lets nothing of the job live.
multicri_lock_scratch() {
  exec {multicri_scratch_lock}<"$multicri_scratch" && flock --nonblock "$multicri_scratch_lock"
} 2>/dev/null

# multicri_remove_left_scratch: removes what jobs of this node left beside this one's that were killed: nobody holds its
# lock. A new one may not be locked yet. Locks of other nodes are not seen on every file system that they share.
multicri_remove_left_scratch() {
  local left lock
  # It may outlive the job, whose lock must not.
  exec {multicri_scratch_lock}<&-
  for left in "${multicri_scratch%.*}."*; do
    [[ $left != "$multicri_scratch" && ! -L $left && -O $left && -n $(find "$left" -maxdepth 0 -type d -mmin +1) ]] || continue
    exec {lock}<"$left" || continue
    ! flock --nonblock "$lock" || multicri_remove_tree "$left"
    exec {lock}<&-
  done
} 2>/dev/null

# multicri_remove_tree DIRECTORY: also what the program has forbidden its own user to enter.
multicri_remove_tree() {
  find "$1" -type d ! -perm -700 -exec chmod u+rwx -- {} \;
  rm -rf -- "$1"
} 2>/dev/null
