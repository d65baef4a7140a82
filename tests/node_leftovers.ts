import { delay } from "@std/async/delay";
import type { NodeServer } from "../scripts/lab/node_server.ts";

/** A supervisor ends a moment after the last that it tells. */
const SETTLE_MS = 10_000;
const LOOK_MS = 50;

/**
 * Prints what is left, a line each. $1, $2: the folders of the server; $3 its log. Cgroups and processes may be those
 * of other servers of the node, so they count if the log knows their container. crun keeps hidden files of its own.
 */
const LOOK = `
for folder in "$1/containers" "$1/images" "$1/output" "$2/pods" "$2/containers" "$2/crun"; do
  find "$folder" -mindepth 1 -maxdepth 1 ! -name '.*' 2>/dev/null
done
grep -F -e "$1/" -e "$2/" /proc/mounts
{
  find /sys/fs/cgroup -type d -regextype posix-extended -regex '.*[0-9a-f]{64}(\\.scope)?' 2>/dev/null
  pgrep -a -f '^multicri: container'
} | while read -r line; do
  ! grep -qF -e "$(echo "$line" | grep -oE '[0-9a-f]{64}')" "$3" || echo "$line"
done
pgrep -a -f -- "--pid=$2/"
true`;

/** What containers on the node itself have there just now, a line each. */
export async function onNodeNow(
  { lab, rootDir, stateDir, logPath }: NodeServer,
): Promise<string> {
  const argv = ["sh", "-c", LOOK, "sh", rootDir, stateDir, logPath];
  const { code, stdout, stderr } = await lab.exec("knode", argv);
  if (code !== 0) throw new Error(`Cannot look at the node: ${stderr}`);
  return stdout;
}

/**
 * What containers on the node itself have left there, a line each; nothing when all are removed and the server has
 * ended: images stay mounted for a moment, and no longer than it runs.
 */
export async function leftOnNode(server: NodeServer): Promise<string> {
  const deadline = performance.now() + SETTLE_MS;
  for (;;) {
    const left = await onNodeNow(server);
    if (left === "" || performance.now() > deadline) return left;
    await delay(LOOK_MS);
  }
}
