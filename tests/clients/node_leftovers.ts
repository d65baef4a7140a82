import type { NodeServer } from "../../scripts/lab/node_server.ts";

/**
 * What containers on the node itself have left there, a line each; nothing when all are removed and the server has
 * ended: images stay mounted for a moment, and no longer than it runs.
 */
export async function leftOnNode({ lab, rootDir, stateDir }: NodeServer): Promise<string> {
  const script = `
for folder in "$1/containers" "$1/images" "$1/output" "$2/pods" "$2/containers" "$2/crun"; do
  find "$folder" -mindepth 1 -maxdepth 1 ! -name ".*"
done
grep -F -e "$1/" -e "$2/" /proc/mounts
find /sys/fs/cgroup -maxdepth 3 -type d -path '*/multicri/*'
pgrep -a -f '^multicri: container|^pause$' || true`;
  const { stdout } = await lab.exec("knode", ["sh", "-c", script, "sh", rootDir, stateDir]);
  return stdout;
}
