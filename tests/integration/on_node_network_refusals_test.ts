/** Networks and ports on the node itself that cannot be: the sentences, and that nothing is left. */
import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { MAKE_POD } from "../../lib/adapters/singularity/pod_scripts.ts";
import { SpdyClient } from "../../lib/streaming/test_spdy_client.ts";
import { prepareNode } from "../../scripts/lab/node_server.ts";
import { lab, onNode } from "../on_node.ts";

Deno.test.beforeAll(() => prepareNode(lab, () => {}));

/** Configurations of a network whose only plugin is a script of this text, or none; and what is said of them. */
const BAD_NETWORKS: Record<string, { plugin?: string; name?: string; message: RegExp }> = {
  "a network without a configuration": { message: /\/run\/on-node-net\/conf/ },
  "a network whose plugin is not there": { name: "toy", message: /toy/ },
  "a network whose plugin fails": {
    name: "toy",
    plugin: `case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}' ;;
ADD) echo '{"cniVersion":"1.0.0","code":11,"msg":"no more toys"}'; exit 1 ;;
esac`,
    message: /no more toys/,
  },
  "a network whose plugin says nonsense": {
    name: "toy",
    plugin: `case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}' ;;
ADD) echo toys ;;
esac`,
    message: /toy/,
  },
};

Deno.test("a pod with a bad network is refused with a sentence, and leaves no namespace", (t) => {
  const folder = "/run/on-node-net";
  const inNode = async (script: string, ...args: string[]) => {
    const { code, stdout, stderr } = await lab.exec("knode", ["sh", "-euc", script, "sh", ...args]);
    assertEquals(code, 0, stderr);
    return stdout;
  };
  const namespaces = () => inNode("ls /run/netns 2>/dev/null || true");
  return onNode(async ({ client }) => {
    const before = await namespaces();
    for (const [what, { plugin, name, message }] of Object.entries(BAD_NETWORKS)) {
      await t.step(what, async () => {
        await inNode('rm -rf "$1"; mkdir -p "$1/conf" "$1/bin"', folder);
        if (name === undefined) await inNode('rmdir "$1"', `${folder}/conf`);
        else {
          const plugins = [{ type: name }];
          const list = JSON.stringify({ cniVersion: "1.0.0", name: "toys", plugins });
          await inNode('printf %s "$2" >"$1"', `${folder}/conf/1.conflist`, list);
        }
        if (name !== undefined && plugin !== undefined) {
          const write = 'printf "#!/bin/sh\\n%s\\n" "$2" >"$1"; chmod +x "$1"';
          await inNode(write, `${folder}/bin/${name}`, plugin);
        }
        const error = await assertRejects(() => client.runPod(), Error);
        assertMatch(error.message, message);
        assertEquals(await namespaces(), before);
        assertEquals(await client.pods({}), []);
      });
    }
    await inNode('rm -rf "$1"', folder);
  }, {
    flags: [
      "--enable-pod-network",
      `--network-conf-dir=${folder}/conf`,
      `--network-bin-dir=${folder}/bin`,
    ],
  });
});

Deno.test("a connection to a port that nobody listens at is refused with a sentence", () =>
  onNode(async ({ client }) => {
    const { pod } = await client.runContainer("sleep 60");
    const { url } = await client.call("portForward", { podSandboxId: pod.id, port: [9] });
    await using forward = await SpdyClient.connect(url, ["portforward.k8s.io"]);
    const headers = { port: "9", requestID: "1" };
    const error = await forward.open({ ...headers, streamType: "error" });
    const data = await forward.open({ ...headers, streamType: "data" });
    assertMatch(await error.text(), /Cannot connect to the port 9 of the pod: .*[Rr]efused/);
    assertEquals(await data.ended, "reset");
  }, { flags: ["--stream-addr", lab.address("knode")] }));

Deno.test("a kernel setting that nobody asked for need not be taken, as on a node in a user namespace", async () => {
  const folder = await lab.exec("knode", ["mktemp", "-d"]);
  const path = folder.stdout.trim();
  /** What is printed, and what the last of the settings is. */
  const make = async (...settings: string[]) => {
    const { code, stdout, stderr } = await lab.exec("knode", [
      ...["unshare", "--user", "--map-root-user", "--mount", "--net", "sh", "-euc"],
      `${MAKE_POD}; cat /proc/sys/net/ipv4/ip_default_ttl; umount "$folder/etc"; rmdir "$folder/etc"`,
      ...["sh", path, "", "", "", "", "", "", "65536", "", ...settings],
    ]);
    assertEquals(code, 0, stderr);
    return stdout;
  };
  try {
    const beyond = "net.ipv4.ping_group_range=0 2147483647";
    const unknown = "net.ipv4.no_such=1";
    const last = "net.ipv4.ip_default_ttl=99";
    assertEquals(await make(`-${beyond}`, `-${unknown}`, last), "99\n");
    assertEquals(await make(beyond, last), "net.ipv4.ping_group_range refused\n64\n");
    assertEquals(await make(unknown, last), "net.ipv4.no_such unknown\n64\n");
  } finally {
    await lab.exec("knode", ["rmdir", path]);
  }
});
