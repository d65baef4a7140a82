/** Servers that run containers on the lab's Kubernetes node itself, and must leave nothing there. */
import { assert, assertEquals } from "@std/assert";
import type {
  ContainerConfig,
  DeepPartial,
  LinuxContainerSecurityContext,
} from "../lib/cri/api.generated.ts";
import { Lab } from "../scripts/lab/lab.ts";
import { NodeServer } from "../scripts/lab/node_server.ts";
import { CriClient, IMAGE, type Pod } from "./cri_client.ts";
import { leftOnNode } from "./node_leftovers.ts";

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
    await use({ server, client });
    for (const podSandboxId of await client.pods({})) {
      await client.call("removePodSandbox", { podSandboxId });
    }
    // Images stay mounted for a moment, and no longer than the server runs.
    await server.stop();
    assertEquals(await leftOnNode(server), "");
  } finally {
    client.close();
    await server.stop();
  }
}

/** What a script in a container of its own prints. */
export async function output(
  client: CriClient,
  pod: Pod,
  script: string,
  securityContext: DeepPartial<LinuxContainerSecurityContext>,
  changes: DeepPartial<ContainerConfig> = {},
): Promise<string> {
  const name = `c${crypto.randomUUID()}`;
  const id = await client.create(pod, script, {
    metadata: { name, attempt: 0 },
    logPath: `${name}.log`,
    linux: { securityContext },
    ...changes,
  });
  await client.call("startContainer", { containerId: id });
  await client.exited(id);
  return await logged(pod, "stdout", `${name}.log`);
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
