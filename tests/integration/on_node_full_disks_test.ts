/**
 * Pods and containers on the node itself whose server's directories are full: nothing half-made stays, and all can go.
 */
import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import {
  type DeepPartial,
  NamespaceMode,
  type PodSandboxConfig,
} from "../../lib/cri/api.generated.ts";
import { type NodeServer, prepareNode } from "../../scripts/lab/node_server.ts";
import type { CriClient } from "../cri_client.ts";
import { onNodeNow } from "../node_leftovers.ts";
import { lab, onNode } from "../on_node.ts";

Deno.test.beforeAll(() => prepareNode(lab, () => {}));

/** A plugin that keeps a file for each pod, as plugins for addresses do. */
const PLUGIN = `#!/bin/sh
leases=/run/on-node-leases
mkdir -p "$leases"
case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}' ;;
ADD) : >"$leases/$CNI_CONTAINERID"
  echo '{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"/ns"}],"ips":[{"address":"192.0.2.9/24","interface":0}]}' ;;
DEL) rm -f "$leases/$CNI_CONTAINERID" ;;
esac`;
const NETWORK = { cniVersion: "1.0.0", name: "leases", plugins: [{ type: "leases" }] };
const NETWORK_FOLDER = "/run/on-node-full-net";

/** What a file system has too little of. */
type Want = "room" | "inodes";
const OPTIONS: Record<Want, string> = { room: "size=4m", inodes: "size=64m,nr_inodes=600" };
const FILL: Record<Want, string> = {
  room: 'cat /dev/zero >"$1/fill" 2>/dev/null || true',
  inodes: 'mkdir -p "$1/fill"; i=0; while (: >"$1/fill/$i") 2>/dev/null; do i=$((i + 1)); done',
};

/** A directory that is full, and which verbs fail for it; the others must succeed. */
interface Fault {
  directory: "stateDir" | "rootDir";
  want: Want;
  fails: readonly ("pod" | "pod with a process" | "create" | "start" | "exec")[];
}

const STATE = ["pod", "pod with a process", "create", "start", "exec"] as const;
const FAULTS: Record<string, Fault> = {
  "of --state-dir have no room": { directory: "stateDir", want: "room", fails: STATE },
  "of --state-dir have no inodes": { directory: "stateDir", want: "inodes", fails: STATE },
  "of --root-dir have no room": {
    directory: "rootDir",
    want: "room",
    fails: ["pod", "pod with a process", "start"],
  },
  "of --root-dir have no inodes": {
    directory: "rootDir",
    want: "inodes",
    fails: ["create", "start"],
  },
};

async function inNode(script: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await lab.exec("knode", ["sh", "-euc", script, "sh", ...args]);
  assertEquals(code, 0, stderr);
  return stdout;
}

/** All that a pod or container that failed may have left. */
async function left(server: NodeServer): Promise<string> {
  const networks = "ls /run/netns /run/on-node-leases 2>/dev/null || true";
  return await onNodeNow(server) + await inNode(networks);
}

/** The pods that are tried; the first has no process of its own. */
const PODS: Record<"pod" | "pod with a process", DeepPartial<PodSandboxConfig>> = {
  "pod": {
    linux: { securityContext: { namespaceOptions: { pid: NamespaceMode.CONTAINER } } },
  },
  "pod with a process": {},
};

for (const [what, { directory, want, fails }] of Object.entries(FAULTS)) {
  Deno.test(`what needs more is refused and leaves nothing when the files ${what}, and all can be removed`, async () => {
    const small = async (server: NodeServer) => {
      const mount = 'mkdir -p "$1"; mount -t tmpfs -o "$2" small "$1"';
      await inNode(mount, server[directory], OPTIONS[want]);
      const write = `rm -rf /run/on-node-leases; mkdir -p "$1/conf" "$1/bin"
printf %s "$2" >"$1/conf/1.conflist"; printf %s "$3" >"$1/bin/leases"; chmod +x "$1/bin/leases"`;
      await inNode(write, NETWORK_FOLDER, JSON.stringify(NETWORK), PLUGIN);
    };
    const flag = directory === "stateDir" ? "--state-dir" : "--root-dir";
    let place = "";
    try {
      await onNode(async ({ server, client }) => {
        place = server[directory];
        const running = await client.runContainer("sleep 1000");
        const pod = await client.runPod();
        const idle = await client.create(pod, "sleep 1000");
        await inNode(FILL[want], place);
        const before = await left(server);
        const verbs: Record<Fault["fails"][number], () => Promise<unknown>> = {
          "pod": () => runAndRemove(client, PODS["pod"]),
          "pod with a process": () => runAndRemove(client, PODS["pod with a process"]),
          "create": () => createAndRemove(client, pod),
          "exec": () =>
            client.call("execSync", { containerId: running.id, cmd: ["true"], timeout: 30n }),
          "start": () => client.call("startContainer", { containerId: idle }),
        };
        for (const [verb, run] of Object.entries(verbs)) {
          if (!fails.some((name) => name === verb)) {
            await run();
            continue;
          }
          const error = await assertRejects(run, Error, undefined, verb);
          const where = `the file system of ${place} \\(${flag}\\)`;
          const sentence =
            `RESOURCE_EXHAUSTED: Cannot [^:]*: ${where} has no room, or no inode, left`;
          assertMatch(error.message, new RegExp(sentence), verb);
          // A container that could not be started is there as before.
          if (verb !== "start") assertEquals(await left(server), before, verb);
        }
        await client.call("stopContainer", { containerId: running.id, timeout: 0n });
        await client.call("stopPodSandbox", { podSandboxId: running.pod.id });
        await client.call("removePodSandbox", { podSandboxId: running.pod.id });
        await client.call("removeContainer", { containerId: idle });
        assertEquals(await client.pods({}), [pod.id]);
        // Another server finds the same.
        await server.stop();
        await server.start();
        await client.call("removePodSandbox", { podSandboxId: pod.id });
      }, {
        before: small,
        flags: [
          "--enable-pod-network",
          `--network-conf-dir=${NETWORK_FOLDER}/conf`,
          `--network-bin-dir=${NETWORK_FOLDER}/bin`,
        ],
      });
      assertEquals(await inNode("ls /run/on-node-leases"), "");
    } finally {
      await inNode('umount -l "$1" || true', place);
    }
  });
}

async function runAndRemove(client: CriClient, changes: DeepPartial<PodSandboxConfig>) {
  const { id } = await client.runPod(client.podConfig(changes));
  await client.call("removePodSandbox", { podSandboxId: id });
}

async function createAndRemove(client: CriClient, pod: Parameters<CriClient["create"]>[0]) {
  const containerId = await client.create(pod, "true", { metadata: { name: "other", attempt: 0 } });
  await client.call("removeContainer", { containerId });
}
