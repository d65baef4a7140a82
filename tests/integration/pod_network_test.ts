/** Pods with networks of their own, by Debian's CNI plugins in the lab's Kubernetes node. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { NetworkNode, type Remains } from "../network_node.ts";

const HOST_PORT = 18080;

/** Of a pod on the node's network. */
const ON_NODE_NETWORK = {
  linux: { cgroup_parent: "/", security_context: { namespace_options: { network: 2 } } },
};

let node: NetworkNode;
let before: Remains;
Deno.test.beforeAll(async () => {
  node = await NetworkNode.start("podnet");
  before = await node.usedOnce();
});
Deno.test.afterAll(() => node?.stop());

/** Stops and removes pods, and checks that nothing is left of them. */
async function removeCleanly(...pods: string[]): Promise<void> {
  await node.server.crictlOk(["stopp", ...pods]);
  assertEquals(await node.remains(), before);
  await node.server.crictlOk(["rmp", ...pods]);
}

async function networkReady(): Promise<{ status: boolean; reason: string; message: string }> {
  const { status } = JSON.parse(await node.server.crictlOk(["info"]));
  return status.conditions.find(({ type }: { type: string }) => type === "NetworkReady");
}

Deno.test("two pods have addresses of both families, reach each other, and leave nothing", async () => {
  const pods = [await node.runPod(), await node.runPod()] as const;
  const [one, two] = [await node.addresses(pods[0]), await node.addresses(pods[1])];
  for (const [v4, v6, ...more] of [one, two]) {
    assertMatch(v4 ?? "", /^10\.92\.0\.\d+$/);
    assertMatch(v6 ?? "", /^fd92::/);
    assertEquals(more, []);
  }
  for (const address of [...two, "127.0.0.1"]) {
    await node.inPod(pods[0], `busybox ping -c 1 -w 5 ${address}`);
  }
  await node.inPod(pods[1], `busybox ping -c 1 -w 5 ${one[0]}`);
  assertEquals(
    await node.inPod(pods[0], "cat /proc/sys/net/ipv4/ip_unprivileged_port_start"),
    "0",
    "the chained plugin tuning",
  );
  const now = await node.remains();
  const counted = Object.keys(now) as (keyof Remains)[];
  assertEquals(counted.filter((what) => now[what] <= before[what]), [], "what is not counted");
  await removeCleanly(...pods);
});

/** What `crictl statsp` tells of a pod's network. */
interface NetworkFigures {
  timestamp: string;
  defaultInterface: { name: string; rxBytes: { value: string }; txBytes: { value: string } };
}

Deno.test("what goes through a pod's own network is told, and that of the node is not", async () => {
  const pods = [await node.runPod(), await node.runPod()] as const;
  const shared = await node.runPod(ON_NODE_NETWORK);
  const figures = async (pod: string): Promise<NetworkFigures | undefined> => {
    const { stats } = JSON.parse(await node.server.crictlOk(["statsp", "-o", "json", "--id", pod]));
    return stats[0].linux.network;
  };
  const before = await figures(pods[0]);
  const [address = ""] = await node.addresses(pods[1]);
  await node.inPod(pods[0], `busybox ping -c 3 -s 1000 -w 15 ${address}`);
  let after = before;
  const sent = () =>
    Number(after?.defaultInterface.txBytes.value) - Number(before?.defaultInterface.txBytes.value);
  for (let looks = 0; !(sent() > 3000); looks++) {
    assert(looks < 100, JSON.stringify([before, after]));
    after = await figures(pods[0]);
  }
  assertEquals(after?.defaultInterface.name, "eth0");
  assert(Number(after?.defaultInterface.rxBytes.value) > 3000, JSON.stringify(after));
  assertEquals(await figures(shared) ?? null, null);
  const { podMetrics } = JSON.parse(await node.server.crictlOk(["metricsp"]));
  const metrics = (pod: string): { name: string; labelValues: string[] }[] =>
    podMetrics.find(({ podSandboxId }: { podSandboxId: string }) => podSandboxId === pod).metrics;
  assert(
    metrics(pods[0]).some(({ name, labelValues }) =>
      name === "container_network_receive_bytes_total" && labelValues.at(-1) === "eth0"
    ),
  );
  assertEquals(metrics(shared), []);
  await removeCleanly(...pods, shared);
});

for (
  const [version, file] of [
    ["0.2.0", "conf"],
    ["0.3.1", "conflist"],
    ["0.4.0", "conflist"],
    ["1.0.0", "conflist"],
  ] as const
) {
  Deno.test(`a pod has addresses when the configuration is a ${file} of CNI ${version}`, async () => {
    const { cniVersions: _, ...all } = node.bridgeNetwork();
    const [bridge, ...others] = all["plugins"] as Record<string, unknown>[];
    // firewall came with 0.4.0.
    const chained = others.filter(({ type }) => version !== "0.3.1" || type !== "firewall");
    const network = { ...all, plugins: [bridge, ...chained] };
    const single = { ...bridge, name: node.name, cniVersion: version };
    await node.configure(file === "conf" ? single : { ...network, cniVersion: version }, file);
    const pod = await node.runPod();
    await node.configure(node.bridgeNetwork());
    const addresses = await node.addresses(pod);
    assertEquals(addresses.map((address) => address.replace(/[0-9a-f]+$/, "")), [
      "10.92.0.",
      "fd92::",
    ]);
    await removeCleanly(pod);
  });
}

Deno.test("a pod's host port leads to the pod, a host port 0 to nothing, and bandwidth is limited", async () => {
  const pod = await node.runPod({
    port_mappings: [
      { container_port: 80, host_port: HOST_PORT },
      { container_port: 81, host_port: 0 },
    ],
    annotations: { "kubernetes.io/ingress-bandwidth": "10M" },
  });
  await node.inPod(
    pod,
    "mkdir -p /run/www; echo hello > /run/www/index.html; busybox httpd -p 80 -h /run/www",
  );
  try {
    const response = await fetch(`http://${node.lab.address("knode")}:${HOST_PORT}/`);
    assertEquals(await response.text(), "hello\n");
  } finally {
    await node.sh(`kill $(ip netns pids multicri-${pod})`);
  }
  assertEquals((await node.sh("iptables-save")).match(/--to-destination \S*:81\b/g), null);
  assertMatch(await node.sh("tc qdisc"), /tbf .* rate 10Mbit/);
  await removeCleanly(pod);
});

Deno.test("a pod on the node's network has no namespace and no address of its own", async () => {
  const pod = await node.runPod(ON_NODE_NETWORK);
  assertEquals(await node.addresses(pod), []);
  await removeCleanly(pod);
});

Deno.test("a stopped pod has no address, and stopping it again is no error", async () => {
  const pod = await node.runPod();
  await node.server.crictlOk(["stopp", pod]);
  assertEquals([await node.addresses(pod), await node.remains()], [[], before]);
  await node.server.crictlOk(["stopp", pod]);
  await node.server.crictlOk(["rmp", pod]);
});

Deno.test("the node is not ready for pods without a configuration, and is as soon as there is one", async () => {
  await node.configure(undefined);
  const { status, reason, message } = await networkReady();
  assertEquals([status, reason], [false, "NetworkPluginNotReady"]);
  assertMatch(message, /^Network plugin returns error: cni plugin not initialized/);
  const { code, stderr } = await node.server.crictl(await node.runArgs());
  assertEquals(code, 1);
  assertStringIncludes(stderr, "cni plugin not initialized");
  await node.configure(node.bridgeNetwork());
  const pod = await node.runPod();
  // What is known of the node's readiness is a second old at most.
  for (let looks = 0; !(await networkReady()).status; looks++) assert(looks < 100);
  await removeCleanly(pod);
});

Deno.test("a pod fails and leaves nothing when a plugin does not speak the network's version", async () => {
  const { cniVersions: _, ...network } = node.bridgeNetwork();
  await node.configure({ ...network, cniVersion: "0.3.1" });
  const { code, stderr } = await node.server.crictl(await node.runArgs());
  await node.configure(node.bridgeNetwork());
  assertEquals([code, await node.remains()], [1, before]);
  assertMatch(stderr, /plugin firewall failed at ADD with code 1: incompatible CNI versions/);
});

Deno.test("a pod fails with the plugin's own words and leaves nothing when its network is full", async () => {
  const network = node.bridgeNetwork();
  const [bridge, ...rest] = network["plugins"] as Record<string, unknown>[];
  const only = "10.92.0.250";
  const range = { subnet: "10.92.0.0/24", rangeStart: only, rangeEnd: only };
  const ipam = { type: "host-local", ranges: [[range]] };
  await node.configure({ ...network, plugins: [{ ...bridge, ipam }, ...rest] });
  const pod = await node.runPod();
  const { code, stderr } = await node.server.crictl(await node.runArgs());
  assertEquals(code, 1);
  assertMatch(stderr, /plugin bridge failed at ADD with code \d+: .*no IP addresses available/);
  await node.configure(node.bridgeNetwork());
  await removeCleanly(pod);
});
