/**
 * What pods ask of their network, and what plugins do that fail: Debian's CNI plugins in the lab's Kubernetes node, and
 * one behind them that does what a test says.
 */
import { assertEquals, assertMatch, assertNotEquals, assertStringIncludes } from "@std/assert";
import { until } from "../../lib/base/test_until.ts";
import { CriClient } from "../cri_client.ts";
import { NetworkNode, PLUGINS, type Remains } from "../network_node.ts";

/** A folder of the node with plugins that call Debian's, and the toy. */
const BIN_DIR = "/opt/cni-edges";
/** What the toy does at a verb is a shell script of the verb's name here; without one it does nothing. */
const TOY_DIR = "/run/cni-edges";
const TOY = `#!/bin/sh
request=$(cat)
[ ! -e ${TOY_DIR}/$CNI_COMMAND ] || . ${TOY_DIR}/$CNI_COMMAND
case $CNI_COMMAND in
  VERSION) echo '{"cniVersion":"1.1.0","supportedVersions":["0.4.0","1.0.0","1.1.0"]}' ;;
  ADD) printf %s "$request" | sed -E 's/.*"prevResult":(.*)[}]$/\\1/' ;;
esac
`;

let node: NetworkNode;
let before: Remains;
Deno.test.beforeAll(async () => {
  node = await NetworkNode.start("netedge", { binDir: BIN_DIR });
  await node.sh(`rm -rf ${BIN_DIR} ${TOY_DIR}; mkdir -p ${BIN_DIR} ${TOY_DIR}`);
  for (const name of ["bridge", "host-local", "tuning", "firewall", "bandwidth", "portmap"]) {
    await write(`${BIN_DIR}/${name}`, `#!/bin/sh\nexec ${PLUGINS}/${name}\n`);
  }
  await write(`${BIN_DIR}/toy`, TOY);
  await node.configure(network());
  before = await node.usedOnce();
});
Deno.test.afterAll(async () => {
  await node.stop();
  await node.sh(`rm -rf ${BIN_DIR} ${TOY_DIR}`);
});

async function write(path: string, text: string): Promise<void> {
  await Deno.writeTextFile(node.lab.path("knode", path), text, { mode: 0o755 });
}

/** The bridge with the toy behind all others. */
function network(): Record<string, unknown> {
  const all = node.bridgeNetwork();
  return { ...all, plugins: [...all["plugins"] as unknown[], { type: "toy" }] };
}

/** Runs `use` while the toy does this at a verb. */
async function withToy(verb: string, script: string, use: () => Promise<void>): Promise<void> {
  await write(`${TOY_DIR}/${verb}`, script);
  try {
    await use();
  } finally {
    await node.sh(`rm ${TOY_DIR}/${verb}`);
  }
}

const refuse = (code: number, msg: string) =>
  `echo '${JSON.stringify({ cniVersion: "1.1.0", code, msg })}'; exit 1\n`;

async function removeCleanly(...pods: string[]): Promise<void> {
  await node.server.crictlOk(["stopp", ...pods]);
  assertEquals(await node.remains(), before);
  await node.server.crictlOk(["rmp", ...pods]);
}

Deno.test("the log names a plugin that hangs when the client does not wait for it, and nothing is left", () =>
  withToy("ADD", "sleep 6011 &\nwait\n", async () => {
    const args = ["--timeout", "3s", ...await node.runArgs()];
    assertEquals((await node.server.crictl(args)).code, 1);
    await until(async () =>
      (await node.server.log()).includes(
        "The network plugin toy had not ended ADD when the call did",
      )
    );
    assertEquals(await node.remains(), before);
    await node.sh("! pgrep -f '^sleep 6011$'");
  }));

Deno.test("an error names a plugin that writes without end, and nothing is left", () =>
  withToy("ADD", "exec cat /dev/zero\n", async () => {
    const { code, stderr } = await node.server.crictl(await node.runArgs());
    assertEquals([code, await node.remains()], [1, before]);
    assertStringIncludes(stderr, "The network plugin toy wrote more than 16 MiB at ADD");
  }));

for (const [code, msg] of [[50, "the agent is away"], [51, "no route to others"]] as const) {
  Deno.test(`the node is not ready for pods while a plugin's status is ${code}, in its words`, async () => {
    const condition = async () => {
      const { status } = JSON.parse(await node.server.crictlOk(["info"]));
      return status.conditions.find(({ type }: { type: string }) => type === "NetworkReady");
    };
    const isReady = async () => (await condition()).status;
    await until(isReady);
    await withToy("STATUS", refuse(code, msg), async () => {
      await until(async () => !await isReady());
      assertStringIncludes(
        (await condition()).message,
        `toy failed at STATUS with code ${code}: ${msg}`,
      );
    });
    await until(isReady);
  });
}

Deno.test("a pod that a plugin does not remove stays until it does", async () => {
  const pod = await node.runPod();
  await withToy("DEL", refuse(11, "the agent is away"), async () => {
    const { code, stderr } = await node.server.crictl(["stopp", pod]);
    assertEquals(code, 1);
    assertStringIncludes(stderr, "toy failed at DEL with code 11: the agent is away");
    assertNotEquals(await node.remains(), before);
  });
  await removeCleanly(pod);
});

Deno.test("a pod is removed by the configuration it was made with, whatever there is now", async () => {
  const pod = await node.runPod({ port_mappings: [{ container_port: 80, host_port: 18082 }] });
  await node.configure({
    cniVersion: "1.0.0",
    name: "another",
    plugins: [{ type: "toy" }],
  });
  await node.server.crictlOk(["stopp", pod]);
  assertEquals(await node.remains(), before);
  await node.configure(network());
  await node.server.crictlOk(["rmp", pod]);
});

Deno.test("a pod's address is of the node's own range when the network asks for that", async () => {
  const { plugins, ...rest } = network();
  const [bridge, ...others] = plugins as Record<string, unknown>[];
  // The bridge has an address of another range already.
  const own = { ipam: { type: "host-local" }, isGateway: false };
  await node.configure({
    ...rest,
    plugins: [{ ...bridge, ...own, capabilities: { ipRanges: true } }, ...others],
  });
  const client = new CriClient(node.lab.path("knode", node.server.socketPath));
  const networkConfig = { podCidr: "10.92.0.64/26,fd92::a0/124" };
  await client.call("updateRuntimeConfig", { runtimeConfig: { networkConfig } });
  client.close();
  const pod = await node.runPod();
  await node.configure(network());
  const [v4 = "", v6 = ""] = await node.addresses(pod);
  assertMatch(v4, /^10\.92\.0\.(6[5-9]|[7-9]\d|1[01]\d|12[0-6])$/);
  assertMatch(v6, /^fd92::a[1-f]$/);
  await removeCleanly(pod);
});

Deno.test("a pod's bandwidth is limited in both directions", async () => {
  const pod = await node.runPod({
    annotations: {
      "kubernetes.io/ingress-bandwidth": "10M",
      "kubernetes.io/egress-bandwidth": "20M",
    },
  });
  const queues = await node.sh("tc qdisc");
  assertMatch(queues, /tbf .* dev veth.* rate 10Mbit/);
  assertMatch(queues, /ingress ffff: dev veth/);
  assertMatch(queues, /tbf .* dev bwp.* rate 20Mbit/);
  await removeCleanly(pod);
});

/** Answers what comes by UDP, and says by a file that it is up. */
const ECHO = `use IO::Socket::INET;
my $socket = IO::Socket::INET->new(Proto => 'udp', LocalPort => 53) or die;
open my $sign, '>', '${TOY_DIR}/is-up' or die;
while ($socket->recv(my $text, 99)) { $socket->send("got $text") }
`;
const ASK = `use IO::Socket::INET;
my $socket = IO::Socket::INET->new(Proto => 'udp', PeerAddr => $ARGV[0], PeerPort => 18053) or die;
$socket->send('this');
$socket->recv(my $text, 99);
print $text;
`;

Deno.test("host ports lead to a pod by both families, by UDP, and only at the address that they name", async () => {
  const pod = await node.runPod({
    port_mappings: [
      { container_port: 80, host_port: 18083 },
      { container_port: 53, host_port: 18053, protocol: 1 },
      { container_port: 80, host_port: 18084, host_ip: "127.0.0.1" },
    ],
  });
  await write(`${TOY_DIR}/echo.pl`, ECHO);
  await write(`${TOY_DIR}/ask.pl`, ASK);
  const get = (host: string, port: number) =>
    node.sh(`busybox wget -T 2 -q -O - http://${host}:${port}/ 2>&1 || true`);
  const address = node.lab.address("knode");
  try {
    await node.inPod(
      pod,
      `mkdir -p /run/www; echo hello > /run/www/index.html
busybox httpd -p 80 -h /run/www
perl ${TOY_DIR}/echo.pl >/dev/null 2>&1 &
while [ ! -e ${TOY_DIR}/is-up ]; do sleep 0.05; done`,
    );
    assertEquals(await get(address, 18083), "hello");
    // The bridge passes on what is asked of all neighbours only when it has seen the pod's port listen.
    await until(async () => await get("[fd92::1]", 18083) === "hello");
    assertEquals(await node.sh(`timeout 10 perl ${TOY_DIR}/ask.pl ${address}`), "got this");
    assertEquals(await get("127.0.0.1", 18084), "hello");
    assertStringIncludes(await get(address, 18084), "refused");
  } finally {
    await node.sh(`kill $(ip netns pids multicri-${pod})`);
  }
  await removeCleanly(pod);
});

Deno.test("a pod that a plugin cannot even remove for what it asks leaves nothing", async () => {
  const plugins = [...network()["plugins"] as unknown[]];
  plugins.splice(-1, 1, { type: "toy", capabilities: { dns: true } });
  const script = `case $request in *runtimeConfig*) ${
    refuse(100, "what is this?").trim()
  };; esac\n`;
  await node.configure({ ...network(), plugins });
  try {
    await withToy("ADD", script, () =>
      withToy("DEL", script, async () => {
        const args = await node.runArgs({ dns_config: { servers: ["192.0.2.53"] } });
        const { code, stderr } = await node.server.crictl(args);
        assertEquals(code, 1);
        assertStringIncludes(stderr, "toy failed at ADD with code 100: what is this?");
        assertEquals(await node.remains(), before);
      }));
  } finally {
    await node.configure(network());
  }
});

Deno.test("a pod's namespace goes when somebody's first `ip netns add` has mounted it twice", async () => {
  await node.sh("while umount /run/netns 2>/dev/null; do :; done");
  const pod = await node.runPod();
  const path = `/run/netns/multicri-${pod}`;
  const mounts = async () => Number(await node.sh(`grep -c ' ${path} ' /proc/self/mountinfo`));
  assertEquals(await mounts(), 1);
  await node.sh("ip netns add somebody; ip netns delete somebody");
  assertEquals(await mounts(), 2);
  await removeCleanly(pod);
});
