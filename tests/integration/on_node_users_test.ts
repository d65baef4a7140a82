/** What containers on the node itself find that have users of their own, beside those that have not. */
import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import {
  type DeepPartial,
  type LinuxContainerSecurityContext,
  type LinuxPodSandboxConfig,
  NamespaceMode,
} from "../../lib/cri/api.generated.ts";
import { prepareNode } from "../../scripts/lab/node_server.ts";
import { CriClient, IMAGE } from "../cri_client.ts";
import { NetworkNode } from "../network_node.ts";
import { lab, onNode, output } from "../on_node.ts";

Deno.test.beforeAll(() => prepareNode(lab, () => {}));

const RANGE = [{ hostId: 1_000_000, containerId: 0, length: 65_536 }];
const USERS = { usernsOptions: { mode: NamespaceMode.POD, uids: RANGE, gids: RANGE } };

Deno.test("what a container writes into its pod's files in /etc is bounded, and with a read-only root nothing", () =>
  onNode(async ({ client }) => {
    for (const namespaceOptions of [{}, USERS]) {
      const linux = { securityContext: { namespaceOptions } };
      const pod = await client.runPod(client.podConfig({ linux, hostname: "here" }));
      const writes = `for file in hosts hostname resolv.conf; do
  echo more 2>/dev/null >>/etc/$file && echo "$file written"
done; cat /etc/hostname; dd if=/dev/zero of=/etc/hosts bs=64k count=64 2>/dev/null || echo full`;
      const readonlyRoot = { namespaceOptions, readonlyRootfs: true };
      assertEquals(await output(client, pod, writes, readonlyRoot), "here\nfull\n");
      assertEquals(
        await output(client, pod, writes, { namespaceOptions }),
        "hosts written\nhostname written\nresolv.conf written\nhere\nmore\nfull\n",
      );
    }
  }));

Deno.test("an ephemeral container sees the processes of its target, and of its own pod's alone", () =>
  onNode(async ({ client }) => {
    const other = await client.runContainer("sleep 1111");
    for (const more of [{}, USERS]) {
      const options = { pid: NamespaceMode.CONTAINER, ...more };
      const linux = { securityContext: { namespaceOptions: options } };
      const pod = await client.runPod(client.podConfig({ linux }));
      const targetId = await client.create(pod, "", {
        command: ["sleep", "2222"],
        metadata: { name: "target", attempt: 0 },
        linux,
      });
      await client.call("startContainer", { containerId: targetId });
      const look = "tr '\\0' ' ' </proc/1/cmdline";
      const debug = { ...options, pid: NamespaceMode.TARGET };
      const seen = await output(client, pod, look, { namespaceOptions: { ...debug, targetId } });
      assertEquals(seen, "sleep 2222 \n");
      // It was the first process of both.
      await client.call("stopContainer", { containerId: targetId, timeout: 0n });
      for (const wrong of [targetId, other.id, "no-such", ""]) {
        const error = await assertRejects(
          () => output(client, pod, look, { namespaceOptions: { ...debug, targetId: wrong } }),
          Error,
        );
        assertMatch(error.message, /must be a running one of the same pod/);
      }
    }
  }));

Deno.test("a file of the image has its capabilities for mapped users too", () =>
  onNode(async ({ server, client }) => {
    const range = [{ hostId: 1_000_000, containerId: 0, length: 65_536 }];
    const usernsOptions = { mode: NamespaceMode.POD, uids: range, gids: range };
    // It holds the image's files, which can be changed until they are let go of.
    await client.create(await client.runPod(), "true");
    const give = `cd "$1"/images/*/rootfs && mkdir capable && cp bin/cat capable/cat &&
setcap cap_net_raw,cap_chown+ep capable/cat`;
    const { code, stderr } = await lab.exec("knode", ["sh", "-euc", give, "sh", server.rootDir]);
    assertEquals(code, 0, stderr);
    for (const namespaceOptions of [{}, { usernsOptions }]) {
      const linux = { securityContext: { namespaceOptions } };
      const pod = await client.runPod(client.podConfig({ linux }));
      const runAsUser = { value: 1000n };
      const script =
        "/capable/cat /proc/self/status | grep CapEff; cat /proc/self/status | grep CapEff";
      assertEquals(
        await output(client, pod, script, { namespaceOptions, runAsUser }),
        "CapEff:\t0000000000002001\nCapEff:\t0000000000000000\n",
        JSON.stringify(namespaceOptions),
      );
    }
  }));

Deno.test("a volume with mapped ids belongs to the pod's users", () =>
  onNode(async ({ client }) => {
    const securityContext = { namespaceOptions: USERS };
    const folder = "/var/lib/on-node-volume";
    await lab.exec("knode", ["sh", "-c", `rm -rf "$1"; mkdir -m 700 "$1"`, "sh", folder]);
    try {
      const pod = await client.runPod(client.podConfig({ linux: { securityContext } }));
      const script = ": >/data/file; chown 5:6 /data/file; stat -c '%u %a' /data";
      const mount = { hostPath: folder, containerPath: "/data" };
      const mounts = [{ ...mount, uidMappings: RANGE, gidMappings: RANGE }];
      assertEquals(await output(client, pod, script, securityContext, { mounts }), "0 700\n");
      const { stdout } = await lab.exec("knode", ["stat", "-c", "%u %g", `${folder}/file`]);
      assertEquals(stdout, "5 6\n");
    } finally {
      await lab.exec("knode", ["rm", "-rf", folder]);
    }
  }));

Deno.test("what a container is not to see or change of the kernel is hidden or read-only, but for a privileged one", () =>
  onNode(async ({ client }) => {
    const paths = {
      maskedPaths: [
        "/proc/interrupts",
        "/proc/scsi",
        "/sys/firmware",
        "/proc/no-such",
      ],
      readonlyPaths: ["/proc/sys", "/proc/irq", "/proc/no-such"],
    };
    // A file is opened for writing and not written: that would change the node.
    const script = `[ "$(cat /proc/interrupts)" ] && echo interrupts
[ "$(ls /sys/firmware)" ] && echo firmware
(: >>/proc/sys/kernel/shmmax) 2>/dev/null && echo setting
(: >>/proc/irq/default_smp_affinity) 2>/dev/null && echo affinity
[ -d /proc/no-such ] && echo made
grep ' /dev/shm ' /proc/mounts | grep -o 'nosuid,nodev,noexec'`;
    const cases: [what: DeepPartial<LinuxContainerSecurityContext>, text: string][] = [
      [paths, "nosuid,nodev,noexec\n"],
      [{ ...paths, namespaceOptions: USERS }, "nosuid,nodev,noexec\n"],
      [
        { ...paths, privileged: true },
        "interrupts\nfirmware\nsetting\naffinity\nnosuid,nodev,noexec\n",
      ],
    ];
    for (const [context, text] of cases) {
      const { privileged = false, namespaceOptions = {} } = context;
      const linux = { securityContext: { privileged, namespaceOptions } };
      const pod = await client.runPod(client.podConfig({ linux }));
      assertEquals(await output(client, pod, script, context), text, JSON.stringify(context));
    }
  }));

Deno.test("a pod with a network of its own sees that one, and everybody in it may listen at low ports and ping", async () => {
  const node = await NetworkNode.start("opennet", { flags: ["--adapter-name", "singularity"] });
  const client = new CriClient(lab.path("knode", node.server.socketPath));
  try {
    await client.call("pullImage", { image: { image: IMAGE } });
    const script = `cd /proc/sys/net/ipv4; cat ip_unprivileged_port_start ping_group_range
ls /sys/class/net; grep '^sys[^ ]* /sys' /proc/mounts | cut -d ' ' -f 2,4`;
    const shown = "eth0\nlo\n/sys ro,nosuid,nodev,noexec,relatime\n";
    const cases: [linux: DeepPartial<LinuxPodSandboxConfig>, text: string][] = [
      [{}, "0\n0\t2147483647\n"],
      [{ sysctls: { "net.ipv4.ping_group_range": "5 6" } }, "0\n5\t6\n"],
      [{ securityContext: { namespaceOptions: USERS } }, "0\n65534\t65534\n"],
    ];
    for (const [linux, text] of cases) {
      const pod = await client.runPod(client.podConfig({ linux }));
      const context = linux.securityContext ?? {};
      const found = await output(client, pod, script, context);
      assertEquals(found, text + shown, JSON.stringify(linux));
    }
  } finally {
    client.close();
    await node.stop();
  }
});
