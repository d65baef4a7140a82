/** Servers that run containers on the lab's Kubernetes node itself, and what they leave there. */
import { assert, assertEquals } from "@std/assert";
import { Lab } from "../scripts/lab/lab.ts";
import { NodeServer } from "../scripts/lab/node_server.ts";
import { CriClient, IMAGE, type Pod } from "./cri_client.ts";

export const lab = new Lab();

/** A server of a test's own, whose containers must leave nothing on the node. */
export async function onNode(
  use: (test: { server: NodeServer; client: CriClient }) => Promise<void>,
  { flags = [], before: prepare = () => Promise.resolve() }: {
    flags?: string[];
    /** What is done before it is started. */
    before?: (server: NodeServer) => Promise<void>;
  } = {},
): Promise<void> {
  const server = new NodeServer(lab, {
    name: "on-node",
    flags: ["--adapter-name", "singularity", ...flags],
  });
  await server.forget();
  await prepare(server);
  await server.start();
  const client = new CriClient(lab.path("knode", server.socketPath));
  try {
    await client.call("pullImage", { image: { image: IMAGE } });
    const before = await leftovers(server);
    await use({ server, client });
    for (const podSandboxId of await client.pods({})) {
      await client.call("removePodSandbox", { podSandboxId });
    }
    // Images stay mounted for a moment, and no longer than the server runs.
    await server.stop();
    assertEquals(await leftovers(server), before);
  } finally {
    client.close();
    await server.stop();
  }
}

/** What a log of a pod holds of one stream: its lines put together again as the program wrote them. */
export async function logged(
  pod: Pod,
  stream: "stdout" | "stderr",
  file = "main.log",
): Promise<string> {
  return outputIn(await logOf(pod, file), stream);
}

/** A container's log as it is. */
export async function logOf({ config }: Pod, file = "main.log"): Promise<string> {
  // Read in the node, where the folder may be a mount.
  const argv = ["cat", `${config.logDirectory}/${file}`];
  const { code, stdout } = await lab.exec("knode", argv);
  assertEquals(code, 0, argv.join(" "));
  return stdout;
}

/** What a log's text holds of one stream, as the program wrote it. */
function outputIn(log: string, stream: "stdout" | "stderr"): string {
  return log.split("\n").slice(0, -1).map((line) => {
    const [, time, of, tag, text = ""] = /^(\S+) (\S+) ([FP]) (.*)$/s.exec(line) ?? [];
    assert(time !== undefined, `a line of another form: ${line}`);
    return of === stream ? text + (tag === "F" ? "\n" : "") : "";
  }).join("");
}

/**
 * What a server's containers have left on the node; the same before and after. Control groups and processes may
 * be those of other servers of the node too, so they count if the server's log knows them. crun keeps an empty directory, and a
 * few compiled seccomp profiles.
 */
export async function leftovers(server: NodeServer): Promise<string> {
  const script = `ls -A "$1/containers" "$1/images" "$1/output" "$2/pods" "$2/containers"
ls -A --ignore=.cache --ignore=.empty-directory "$2/crun"
grep -cF -e "$1/" -e "$2/" /proc/mounts
for group in /sys/fs/cgroup/*/multicri/*/; do
  ! grep -qF "$(basename "$group")" "$3" || echo "$group"
done
pgrep -af '^multicri: container' | while read -r process program kind id; do
  ! grep -qF "$id" "$3" || echo "$process is the supervisor of $id"
done
pgrep -af -- "--pid=$2/" || true`;
  const argv = ["sh", "-c", script, "sh", server.rootDir, server.stateDir, server.logPath];
  return (await lab.exec("knode", argv)).stdout;
}
