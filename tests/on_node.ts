/** Servers whose containers run on the lab's Kubernetes node, for tests of them. */
import { assert, assertEquals } from "@std/assert";
import { Lab } from "../scripts/lab/lab.ts";
import { NodeServer } from "../scripts/lab/node_server.ts";
import { CriClient, IMAGE, type Pod } from "./cri_client.ts";

export const lab = new Lab();

/** A server of a test's own, whose containers must leave nothing on the node. */
export async function onNode(
  use: (test: { server: NodeServer; client: CriClient }) => Promise<void>,
): Promise<void> {
  const server = new NodeServer(lab, { name: "on-node", flags: ["--adapter-name", "singularity"] });
  await server.forget();
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

/** What the log holds of one stream: its lines put together again as the program wrote them. */
export async function logged(
  { config }: Pod,
  stream: "stdout" | "stderr",
  file = "main.log",
): Promise<string> {
  const log = await Deno.readTextFile(lab.path("knode", `${config.logDirectory}/${file}`));
  return log.split("\n").slice(0, -1).map((line) => {
    const [, time, of, tag, text = ""] = /^(\S+) (\S+) ([FP]) (.*)$/s.exec(line) ?? [];
    assert(time !== undefined, `a line of another form: ${line}`);
    return of === stream ? text + (tag === "F" ? "\n" : "") : "";
  }).join("");
}

/** What a server's containers have left on the node; the same before and after. */
async function leftovers(server: NodeServer): Promise<string> {
  // crun keeps a few compiled seccomp profiles.
  const script =
    `ls -A --ignore=.cache "$1/containers" "$1/images" "$1/output" "$2/pods" "$2/containers" "$2/crun"
grep -cF -e "$1/" -e "$2/" /proc/mounts
ls -d /sys/fs/cgroup/*/multicri/*/ 2>/dev/null
pgrep -f '^multicri: container|^pause$' || true`;
  const argv = ["sh", "-c", script, "sh", server.rootDir, server.stateDir];
  return (await lab.exec("knode", argv)).stdout;
}
