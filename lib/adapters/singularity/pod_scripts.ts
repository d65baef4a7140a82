/** The programs of sh(1) that make, end and look at pods, whose mounts and namespaces are beyond this process. */

/**
 * Makes a pod's namespaces, each held by a mount of its file, the file systems that its containers share, and its
 * kernel settings; the first of these that the kernel does not have or take is printed, as `NAME unknown` or `NAME
 * refused`.
 *
 * $1 the folder, $2 the host name or nothing, $3 its network or nothing, $4 the namespaces to make, $5 the size of
 * shared memory or nothing, $6 the program of the first process, $7 the one that starts it, $8 the size of its files in
 * /etc, $9 a word if it is to have what the kernel shows of its network in /sys, else nothing; then settings as
 * NAME=VALUE, or as
 * -NAME=VALUE if it does not matter whether the kernel takes them (as in sysctl.d(5)).
 */
export const MAKE_POD = `
folder=$1 hostname=$2 network=$3 kinds=$4 shm=$5 pause=$6 start=$7 etc=$8 sys=$9
shift 9
own_file_system() {
  mkdir "$folder/$1"
  mount -t tmpfs -o "nosuid,nodev,noexec,mode=$2,size=$3" "$1" "$folder/$1"
}
own_file_system etc 755 "$etc"
[ -z "$shm" ] || own_file_system shm 1777 "$shm"
if [ -n "$sys" ]; then
  mkdir "$folder/sys"
  \${network:+nsenter "--net=$network"} mount -t sysfs -o nosuid,nodev,noexec sys "$folder/sys"
fi
set -- sh -euc '
  [ -z "$1" ] || printf %s "$1" >/proc/sys/kernel/hostname
  shift
  for setting; do
    name=\${setting%%=*} why=
    file=/proc/sys/$(printf %s "\${name#-}" | tr . /)
    [ -e "$file" ] || why=unknown
    [ "$why" ] || { printf %s "\${setting#*=}" >"$file"; } 2>/dev/null || why=refused
    [ "$why" ] || continue
    case $name in -*) ;; *) echo "$name $why"; break ;; esac
  done' sh "$hostname" "$@"
for kind in $kinds; do
  : >"$folder/$kind"
  case $kind in pid) ;; *) set -- "--$kind=$folder/$kind" "$@" ;; esac
done
set -- unshare "$@"
[ -z "$network" ] || set -- nsenter "--net=$network" "$@"
"$@"
case " $kinds " in
*" pid "*) perl -e "$start" "$folder" "$pause" ;;
esac`;

/**
 * Ends a pod's first process and lets go of its namespaces; what is not there does not matter. When no file tells which
 * the process is, its command line does. umount(8) takes a name that is no whole path for the source of a mount too,
 * which may be another pod's.
 */
export const END_POD = `
first=$(cat "$1/pause" 2>/dev/null) || true
if [ -z "$first" ] || ! grep -qszxF -- "--pid=$1/pid" "/proc/$first/cmdline"; then
  first=
  if [ -e "$1/pid" ] || [ ! -e "$1" ]; then
    files=$(printf %s "--pid=$1/pid" | grep -lszxF -f - /proc/[0-9]*/cmdline) || true
    for file in $files; do file=\${file%/cmdline}; first="$first \${file#/proc/}"; done
  fi
fi
for process in $first; do kill -9 "$process" 2>/dev/null || true; done
for name in pid ipc uts shm etc sys; do umount -l -- "$1/$name" 2>/dev/null || true; done`;

/** Says so when a pod that has processes of its own has lost the first of them, and all others with it. */
export const LOOK_AT_POD = `
[ ! -e "$1/pid" ] || { [ -s "$1/pause" ] && grep -qsF -- "--pid=$1/pid" "/proc/$(cat "$1/pause")/cmdline"; } || echo lost`;

/** Prints the words of the command lines of all that waits for first processes of pods of the folder $1. */
export const FIND_PROCESSES = `
files=$(printf %s "--pid=$1/" | grep -lszF -f - /proc/[0-9]*/cmdline) || true
for file in $files; do { tr '\\0' '\\n' <"$file"; } 2>/dev/null || true; done`;
