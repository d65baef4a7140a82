/** What confines containers on the node itself, as their programs find it. */
import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import {
  type ContainerConfig,
  type DeepPartial,
  type LinuxContainerSecurityContext,
  type LinuxPodSandboxConfig,
  type Mount,
  MountPropagation,
  NamespaceMode,
  SecurityProfile_ProfileType,
} from "../../lib/cri/api.generated.ts";
import { prepareNode } from "../../scripts/lab/node_server.ts";
import { CriClient, IMAGE, type Pod } from "../cri_client.ts";
import { NetworkNode } from "../network_node.ts";
import { lab, logged, onNode } from "../on_node.ts";

const { Localhost, RuntimeDefault } = SecurityProfile_ProfileType;

Deno.test.beforeAll(() => prepareNode(lab, () => {}));

/** What a script in a container of its own prints. */
async function output(
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

const RANGE = [{ hostId: 1_000_000, containerId: 0, length: 65_536 }];
const USERS = { usernsOptions: { mode: NamespaceMode.POD, uids: RANGE, gids: RANGE } };

/** A program for the 80386, as elf(5) has them: a header, a program header, instructions. It ends with 42. */
function oldProgram(
  code = [0xb8, 1, 0, 0, 0, 0xbb, 42, 0, 0, 0, 0xcd, 0x80],
): Uint8Array {
  const [EXECUTABLE, INTEL_80386, VERSION, LOADED, READ_AND_RUN] = [2, 3, 1, 1, 5];
  const [HEADER_BYTES, ENTRY_BYTES, BASE, PAGE_BYTES] = [52, 32, 0x08048000, 0x1000];
  const begin = HEADER_BYTES + ENTRY_BYTES;
  const size = begin + code.length;
  const halves = (...numbers: number[]) => new Uint8Array(Uint16Array.from(numbers).buffer);
  const words = (...numbers: number[]) => new Uint8Array(Uint32Array.from(numbers).buffer);
  return Uint8Array.from([
    ...new TextEncoder().encode("\x7fELF"),
    ...[1, 1, 1, ...Array(9).fill(0)],
    ...halves(EXECUTABLE, INTEL_80386),
    ...words(VERSION, BASE + begin, HEADER_BYTES, 0, 0),
    ...halves(HEADER_BYTES, ENTRY_BYTES, 1, 0, 0, 0),
    ...words(LOADED, 0, BASE, BASE, size, size, READ_AND_RUN, PAGE_BYTES),
    ...code,
  ]);
}

Deno.test({
  name: "the default seccomp profile lets programs of 32 bits run",
  ignore: Deno.build.arch !== "x86_64",
  fn: () =>
    onNode(async ({ client }) => {
      const pod = await client.runPod();
      const script =
        `echo ${oldProgram().toBase64()} | base64 -d >/old; chmod +x /old; /old; echo $?`;
      const seccomp = { profileType: RuntimeDefault };
      assertEquals(await output(client, pod, script, { seccomp }), "42\n");
    }),
});

/** Calls number `call` with `first` and 1, and ends with the error, or 0. */
function callingProgram(call: number, first: number): Uint8Array {
  const word = (number: number) => new Uint8Array(Uint32Array.of(number).buffer);
  const set = (register: number, number: number) => [0xb8 + register, ...word(number)];
  const [EAX, ECX, EDX, EBX] = [0, 1, 2, 3];
  const INTERRUPT = [0xcd, 0x80];
  return oldProgram([
    ...[...set(EAX, call), ...set(EBX, first), ...set(ECX, 1), ...set(EDX, 0), ...INTERRUPT],
    // Not negative: no error.
    ...[0x31, 0xdb, 0x85, 0xc0, 0x79, 0x04, 0x89, 0xc3, 0xf7, 0xdb],
    ...[...set(EAX, 1), ...INTERRUPT],
  ]);
}

Deno.test({
  name: "the default seccomp profile looks at families of sockets and personalities",
  ignore: Deno.build.arch !== "x86_64",
  fn: () =>
    onNode(async ({ client }) => {
      const [PERSONALITY, SOCKET] = [136, 359];
      const [AF_UNIX, AF_VSOCK, EPERM] = [1, 40, 1];
      const pod = await client.runPod();
      const calls = [
        [SOCKET, AF_UNIX, 0],
        [SOCKET, AF_VSOCK, EPERM],
        [PERSONALITY, 0xffffffff, 0],
        [PERSONALITY, 8, 0],
        [PERSONALITY, 0x40000, EPERM],
      ] as const;
      const scripts = calls.map(([call, first], index) =>
        `echo ${
          callingProgram(call, first).toBase64()
        } | base64 -d >/${index}; chmod +x /${index}; /${index}; echo $?`
      );
      const seccomp = { profileType: RuntimeDefault };
      const ends = calls.map(([, , end]) => `${end}\n`).join("");
      assertEquals(await output(client, pod, scripts.join("\n"), { seccomp }), ends);
    }),
});

Deno.test("the conditions in a seccomp profile of the node count", () =>
  onNode(async ({ client }) => {
    const localhostRef = "/run/seccomp-conditions.json";
    const rule = { names: ["mkdir", "mkdirat"], action: "SCMP_ACT_ERRNO" };
    const syscalls = [{ ...rule, excludes: { caps: ["CAP_NET_RAW"] } }];
    const profile = { defaultAction: "SCMP_ACT_ALLOW", syscalls };
    await Deno.writeTextFile(lab.path("knode", localhostRef), JSON.stringify(profile));
    const pod = await client.runPod();
    const script = "mkdir /made && echo made || echo refused";
    const seccomp = { profileType: Localhost, localhostRef };
    const capabilities = { dropCapabilities: ["NET_RAW"] };
    assertEquals(await output(client, pod, script, { seccomp }), "made\n");
    assertEquals(await output(client, pod, script, { seccomp, capabilities }), "refused\n");
  }));

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

Deno.test("a privileged container has the node's devices, and its own input and descriptors in /dev", () =>
  onNode(async ({ client }) => {
    const inNode = (script: string) => lab.exec("knode", ["sh", "-euc", script]);
    const { code, stderr } = await inNode(`rm -rf /dev/far
mkdir -p /dev/far/deep && mknod /dev/far/deep/null c 1 3 && ln -s deep/null /dev/far/link`);
    assertEquals(code, 0, stderr);
    try {
      const securityContext = { privileged: true };
      const pod = await client.runPod(client.podConfig({ linux: { securityContext } }));
      const script = `echo typed | cat /dev/stdin
[ -L /dev/stdin ] && [ -L /dev/fd ] && [ -e /dev/fd/0 ] && [ -c /dev/far/deep/null ] && echo all
[ -e /dev/far/link ] && echo followed
ls /dev/loop0`;
      const seen = await output(client, pod, script, securityContext);
      assertEquals(seen, "typed\nall\n/dev/loop0\n");
      const asked = { hostPath: "/dev/far/link", containerPath: "/dev/mine", permissions: "rw" };
      const give = { devices: [asked] };
      assertEquals(
        await output(client, pod, "echo >/dev/mine && ls /dev/mine", {}, give),
        "/dev/mine\n",
      );
    } finally {
      await inNode("rm -r /dev/far");
    }
  }));

Deno.test("mounts are read-only as far as they are asked to be", () =>
  onNode(async ({ client }) => {
    const outer = "/run/on-node-mounts";
    const make = `mkdir -p "$1" && mount -t tmpfs outer "$1" && mkdir "$1/inner" &&
mount -t tmpfs inner "$1/inner"`;
    assertEquals((await lab.exec("knode", ["sh", "-euc", make, "sh", outer])).code, 0);
    try {
      const pod = await client.runPod();
      const mount = { hostPath: outer, containerPath: "/data" };
      const script = `for folder in /data /data/inner; do
  (: >$folder/file) 2>/dev/null && echo "$folder written"
done; cp /bin/true /data/inner 2>/dev/null && /data/inner/true 2>/dev/null && echo run; true`;
      const cases: [changes: DeepPartial<Mount>, text: string][] = [
        [{}, "/data written\n/data/inner written\nrun\n"],
        [{ readonly: true }, "/data/inner written\nrun\n"],
        [{ readonly: true, recursiveReadOnly: true }, ""],
        [{ hostPath: `${outer}/inner`, mountOptions: ["noexec"] }, "/data written\n"],
      ];
      for (const [changes, text] of cases) {
        const mounts = [{ ...mount, ...changes }];
        assertEquals(await output(client, pod, script, {}, { mounts }), text);
      }
    } finally {
      await lab.exec("knode", ["sh", "-c", 'umount -l "$1"; rmdir "$1"', "sh", outer]);
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
Deno.test("pods with the node's IPC see its queues of messages, others their own", () =>
  onNode(async ({ client }) => {
    const queue = `/dev/mqueue/${crypto.randomUUID()}`;
    const sees = async (ipc: NamespaceMode, script: string) => {
      const securityContext = { namespaceOptions: { ipc } };
      const pod = await client.runPod(client.podConfig({ linux: { securityContext } }));
      return await output(client, pod, script, securityContext);
    };
    await sees(NamespaceMode.NODE, `touch ${queue}`);
    const look = `[ -d /dev/mqueue ] && [ -e ${queue} ] && echo seen`;
    assertEquals(await sees(NamespaceMode.POD, look), "");
    assertEquals(await sees(NamespaceMode.NODE, `${look}; rm ${queue}`), "seen\n");
  }));

Deno.test("a mount with propagation is refused whose source lies on a private mount of the node", () =>
  onNode(async ({ client }) => {
    const folder = "/run/private mount";
    const make =
      'mkdir -p "$1"; mount -t tmpfs tmpfs "$1"; mount --make-private "$1"; mkdir "$1/within"';
    assertEquals((await lab.exec("knode", ["sh", "-euc", make, "sh", folder])).code, 0);
    try {
      const pod = await client.runPod();
      const create = (propagation: MountPropagation) =>
        output(client, pod, "echo mounted", {}, {
          mounts: [{ hostPath: `${folder}/within`, containerPath: "/mnt", propagation }],
        });
      const { PROPAGATION_BIDIRECTIONAL, PROPAGATION_HOST_TO_CONTAINER } = MountPropagation;
      for (const propagation of [PROPAGATION_BIDIRECTIONAL, PROPAGATION_HOST_TO_CONTAINER]) {
        await assertRejects(() => create(propagation), Error, "must lie on a shared");
      }
      assertEquals(await create(MountPropagation.PROPAGATION_PRIVATE), "mounted\n");
      await lab.exec("knode", ["mount", "--make-shared", folder]);
      assertEquals(await create(PROPAGATION_BIDIRECTIONAL), "mounted\n");
    } finally {
      await lab.exec("knode", ["umount", "-l", folder]);
      await lab.exec("knode", ["rmdir", folder]);
    }
  }));
