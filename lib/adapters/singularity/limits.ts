import type { Node } from "./node.ts";

/** Files of a cgroup that limits are written into, of either version (cgroup-v1, cgroup-v2.rst). */
const FILES = [
  ...["cpu.shares", "cpu.cfs_period_us", "cpu.cfs_quota_us", "cpu.weight", "cpu.max"],
  ...["cpuset.cpus", "cpuset.mems"],
  ...["memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.max", "memory.swap.max"],
];
/** Of huge pages there is one for each size. */
const PATTERNS = "hugetlb.*.limit_in_bytes hugetlb.*.max";

/** Prints paths and texts, each with a NUL behind. $1 the list of the container's cgroups; then names of files. */
const READ = `
list=$1
shift
while read -r controller folder; do
  for file in $(cd "$folder" && ls -d ${PATTERNS} 2>/dev/null) "$@"; do
    [ ! -f "$folder/$file" ] || printf '%s\\0%s\\0' "$folder/$file" "$(cat "$folder/$file")"
  done
done <"$list"`;

/** Writes texts into files, by pairs, where they are others; twice, as one limit may be in the way of another. */
const WRITE = `
for round in 1 2; do
  left=$#
  while [ "$left" -gt 0 ]; do
    path=$1 text=$2
    shift 2
    set -- "$@" "$path" "$text"
    left=$((left - 2))
    [ "$(cat "$path")" = "$text" ] || (printf '%s\\n' "$text" >"$path") 2>/dev/null || true
  done
done`;

/**
 * Changes a running container's limits by several writes, of which the kernel may refuse any: then all limits are what
 * they were.
 * @param list The file that lists its cgroups; see supervise.pl.
 * @param unified Names of further files that the change writes into.
 * @throws what `change` throws.
 */
export async function changeWhole(
  node: Node,
  list: string,
  unified: readonly string[],
  change: () => Promise<void>,
): Promise<void> {
  const before = await node.script("read the container's limits", READ, [
    list,
    ...FILES,
    ...unified,
  ]);
  try {
    await change();
  } catch (error) {
    await node.script("restore the container's limits", WRITE, before.split("\0").slice(0, -1));
    throw error;
  }
}
