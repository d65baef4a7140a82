/** What confines containers on the node itself, as their programs find it. */
import { assertEquals, assertRejects } from "@std/assert";
import {
  type DeepPartial,
  type Mount,
  MountPropagation,
  NamespaceMode,
  SecurityProfile_ProfileType,
} from "../../lib/cri/api.generated.ts";
import { prepareNode } from "../../scripts/lab/node_server.ts";
import { lab, onNode, output } from "../on_node.ts";

const { Localhost, RuntimeDefault } = SecurityProfile_ProfileType;

Deno.test.beforeAll(() => prepareNode(lab, () => {}));

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
