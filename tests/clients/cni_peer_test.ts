/** What plugins are told by containerd, which uses libcni, and by multicri: the same of the same pod. */
import { assertEquals } from "@std/assert";
import { startContainerd } from "../../scripts/lab/containerd.ts";
import { Crictl } from "../../scripts/lab/crictl.ts";
import { pushCritestImages } from "../../scripts/lab/critest_images.ts";
import { NetworkNode, PLUGINS } from "../network_node.ts";

/** A folder of the node with plugins that write down what they are told before they do it. */
const RECORDERS = "/opt/cni-recorders";
const RECORDS = "/opt/cni-records";

const RECORDER = `#!/bin/sh
record=${RECORDS}/$(date +%s%N)
request=$(cat)
printf '%s\\n%s\\n%s\\n%s\\n%s' "$CNI_COMMAND" "$CNI_IFNAME" "$CNI_PATH" "$CNI_ARGS" "$request" > $record
printf '%s' "$request" | ${PLUGINS}/\${0##*/}
`;

/** Everything that a pod can ask of its network. */
const POD = {
  metadata: { name: "peer", namespace: "tests", uid: "uid-1", attempt: 0 },
  annotations: { "kubernetes.io/ingress-bandwidth": "10M" },
  port_mappings: [
    { container_port: 80, host_port: 18090 },
    { container_port: 53, host_port: 18053, protocol: 1, host_ip: "127.0.0.1" },
    { container_port: 81, host_port: 0 },
  ],
  dns_config: { servers: ["192.0.2.53"], searches: ["svc"], options: ["ndots:5"] },
};

/** Runs and removes the pod; what the plugins were told, without what differs with each pod. */
async function recorded(node: NetworkNode, crictl: Crictl, args: string[]): Promise<unknown[]> {
  await node.sh(`rm -rf ${RECORDS}; mkdir -p ${RECORDS}`);
  const pod = await crictl.ok(args);
  await crictl.ok(["stopp", pod]);
  await crictl.ok(["rmp", pod]);
  const names = (await node.sh(`ls ${RECORDS}`)).split("\n");
  const records = await Promise.all(names.map(async (name) => {
    const text = await Deno.readTextFile(node.lab.path("knode", `${RECORDS}/${name}`));
    const [command, ifName, path, pluginArgs = "", ...request] = text.split("\n");
    return {
      command,
      ifName,
      path,
      args: pluginArgs.split(";").sort(),
      request: comparable(JSON.parse(request.join("\n"))),
    };
  }));
  return JSON.parse(
    JSON.stringify(records).replaceAll(pod, "<sandbox>")
      .replaceAll(/\/(var\/)?run\/netns\/[\w<>-]+/g, "<namespace>")
      .replaceAll(/([0-9a-f]{2}:){5}[0-9a-f]{2}/g, "<mac>")
      .replaceAll(/veth[0-9a-f]{8}/g, "<veth>")
      .replaceAll(/10\.92\.0\.\d+\/24/g, "<v4>").replaceAll(/fd92::[0-9a-f]+\/64/g, "<v6>"),
  );
}

/**
 * containerd spells arguments of capabilities as Go does, and gives limits of 0 where there are none; libcni leaves
 * `capabilities` in, which SPEC.md forbids. Plugins in Go do not see a difference.
 */
function comparable(request: Record<string, unknown>): unknown {
  const { capabilities: _, runtimeConfig, ...rest } = request;
  const lowerCase = (_key: string, value: unknown) =>
    typeof value !== "object" || value === null || Array.isArray(value)
      ? value
      : Object.fromEntries(
        Object.entries(value).filter(([, part]) => part !== 0)
          .map(([key, part]) => [key.toLowerCase(), part]),
      );
  return { ...rest, arguments: JSON.parse(JSON.stringify(runtimeConfig ?? {}, lowerCase)) };
}

Deno.test("a pod that containerd has run before the first one of multicri can be removed", async () => {
  const node = await NetworkNode.start("cniolder");
  try {
    await pushCritestImages(node.lab, () => {});
    await node.sh("while umount /run/netns 2>/dev/null; do :; done");
    const namespaces = () => node.sh("ls /run/netns 2>/dev/null || true");
    const before = await namespaces();
    const containerd = await startContainerd(node.lab, () => {}, "containerd");
    try {
      const args = await node.runArgs();
      const plainArgs = args.filter((arg) => arg !== "--runtime" && arg !== "multicri");
      const older = await containerd.crictl.ok(plainArgs);
      const ours = await node.runPod();
      await containerd.crictl.ok(["rmp", "--force", older]);
      await node.server.crictlOk(["rmp", "--force", ours]);
      assertEquals(await namespaces(), before);
    } finally {
      await containerd.stop();
    }
  } finally {
    await node.stop();
  }
});

Deno.test("plugins are told the same of a pod by multicri as by containerd", async () => {
  const node = await NetworkNode.start("cnipeer", { binDir: RECORDERS });
  const network = node.bridgeNetwork();
  const [bridge, ...others] = network["plugins"] as Record<string, unknown>[];
  const all = { dns: true, "io.kubernetes.cri.pod-annotations": true, cgroupPath: true };
  const configuration = { ...network, plugins: [{ ...bridge, capabilities: all }, ...others] };
  try {
    await node.sh(
      `mkdir -p ${RECORDERS}; cp ${PLUGINS}/host-local ${PLUGINS}/loopback ${RECORDERS}`,
    );
    for (const name of ["bridge", "tuning", "firewall", "bandwidth", "portmap"]) {
      const path = node.lab.path("knode", `${RECORDERS}/${name}`);
      await Deno.writeTextFile(path, RECORDER, { mode: 0o755 });
    }
    await node.configure(configuration);
    await pushCritestImages(node.lab, () => {});
    const args = await node.runArgs(POD);
    const ours = await recorded(node, new Crictl(node.lab, node.server.socketPath), args);
    const containerd = await startContainerd(node.lab, () => {}, "containerd", {
      configuration,
      pluginDir: RECORDERS,
    });
    try {
      const plainArgs = args.filter((arg) => arg !== "--runtime" && arg !== "multicri");
      const theirs = await recorded(node, containerd.crictl, plainArgs);
      // RemovePodSandbox of containerd removes a pod from its network once more.
      assertEquals(ours, theirs.slice(0, ours.length));
      assertEquals(ours.length, 10);
    } finally {
      await containerd.stop();
    }
  } finally {
    await node.stop();
    await node.sh(`rm -rf ${RECORDERS} ${RECORDS}`);
  }
});
