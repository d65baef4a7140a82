import type { Lab } from "./lab.ts";

/** Unmounts, in the lab's Kubernetes node, all that is mounted below a folder there. */
export async function unmountBelow(lab: Lab, folder: string): Promise<void> {
  const list = ["findmnt", "--noheadings", "--list", "--output", "TARGET"];
  const { stdout } = await lab.exec("knode", list);
  const below = stdout.split("\n").filter((path) => path.startsWith(`${folder}/`));
  // What was mounted last lies uppermost.
  if (below.length > 0) await lab.exec("knode", ["umount", ...below.reverse()]);
}
