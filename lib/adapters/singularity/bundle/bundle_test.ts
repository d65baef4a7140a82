import { assertEquals, assertThrows } from "@std/assert";
import { CriError } from "../../../base/error.ts";
import {
  ContainerConfig,
  type NamespaceMode,
  PodSandboxConfig,
  SecurityProfile_ProfileType,
  type SupplementalGroupsPolicy,
} from "../../../cri/api.generated.ts";
import { imageRecord } from "../../../store/test_store.ts";
import { writeSpec } from "./bundle.ts";

type Config = Parameters<typeof ContainerConfig.fromPartial>[0];

const FACTS = {
  capabilities: ["CAP_CHOWN", "CAP_SYS_ADMIN"],
  oomScore: 0,
  mayLowerOomScore: true,
  hasUnifiedCgroups: false,
  canLimitHugepages: true,
  canLimitSwap: true,
  hasAppArmor: true,
  hasSelinux: false,
  machine: "x86_64" as const,
  kernel: "6.1.0",
  mostOpenFiles: 20_000,
};

/** The config.json of a container in a pod that is privileged and has a cgroup of its own. */
function spec(config: Config, facts: Partial<typeof FACTS> = {}) {
  return writeSpec({
    id: "c1",
    sandbox: PodSandboxConfig.fromPartial({
      linux: { cgroupParent: "/pods/p1", securityContext: { privileged: true } },
    }),
    config: ContainerConfig.fromPartial(config),
    image: imageRecord().config,
    facts: { ...FACTS, ...facts },
    root: "/root-of-c1",
    userFiles: { passwd: "", group: "" },
    hostname: "here",
    podFiles: { hosts: "/p/hosts", hostname: "/p/hostname", resolvConf: "/p/resolv.conf" },
    namespaces: {},
    userNamespace: undefined,
    target: undefined,
    mounts: [],
    devices: [],
    seccompFile: undefined,
    systemdCgroups: false,
  });
}

const context = (
  securityContext: NonNullable<NonNullable<Config>["linux"]>["securityContext"],
) => ({
  linux: { securityContext },
});

Deno.test("writeSpec() names the AppArmor profile, which no kernel of a test has", () => {
  const apparmor = { profileType: SecurityProfile_ProfileType.Localhost, localhostRef: "mine" };
  assertEquals(spec(context({ apparmor })).process.apparmorProfile, "mine");
  assertEquals("apparmorProfile" in spec({}).process, false);
});

Deno.test("writeSpec() hides and protects paths unless the container is privileged", () => {
  const paths = { maskedPaths: ["/proc/keys"], readonlyPaths: ["/proc/sys"] };
  const { maskedPaths, readonlyPaths } = spec(context(paths)).linux;
  assertEquals([maskedPaths, readonlyPaths], [["/proc/keys"], ["/proc/sys"]]);
  const privileged = spec(context({ ...paths, privileged: true })).linux;
  assertEquals([privileged.maskedPaths, privileged.readonlyPaths], [[], []]);
});

Deno.test("writeSpec() gives a container limits in its pod's cgroup, and a cgroup namespace where these are unified", () => {
  const resources = { hugepageLimits: [{ pageSize: "2MB", limit: 0n }], cpuShares: 2n };
  const { linux } = spec({ linux: { resources } });
  assertEquals(linux.cgroupsPath, "/pods/p1/c1");
  assertEquals(linux.resources.hugepageLimits, [{ pageSize: "2MB", limit: 0 }]);
  assertEquals(linux.resources.cpu, { shares: 2 });
  const kinds = (hasUnifiedCgroups: boolean) =>
    spec({}, { hasUnifiedCgroups }).linux.namespaces.map(({ type }) => type);
  assertEquals([kinds(false), kinds(true)], [["mount", "pid"], ["mount", "pid", "cgroup"]]);
});

Deno.test("writeSpec() lets the pod's variables win over the image's, and knows HOSTNAME, PATH and TERM", () => {
  const value = (text: string) => new TextEncoder().encode(text);
  const envs = [{ key: "HOSTNAME", value: value("other") }, { key: "A", value: value("b=c\n") }];
  assertEquals(spec({ envs, tty: true }).process.env, [
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "TERM=xterm",
    "HOSTNAME=other",
    "A=b=c\n",
  ]);
});

const NO_PROFILE = 5 as SecurityProfile_ProfileType;

const REFUSED: [config: Config, message: string][] = [
  [{ command: ["sh", "-c", "a\0b"] }, 'its argument "a" must not hold a null byte'],
  [{ envs: [{ key: "A", value: new Uint8Array([0x62, 0]) }] }, 'its variable "A" must not'],
  [{ envs: [{ key: "", value: new Uint8Array([1]) }] }, "a variable that has no name"],
  [{ command: [""] }, "the first word of its command names the program, and must not be empty"],
  [{ command: [], args: ["", "x"] }, "the first word of its command names the program"],
  [{ command: ["x".repeat(131_072)] }, "must have fewer than 131072 bytes, and has 131072"],
  [{ args: Array(20).fill("x".repeat(131_000)) }, "bytes together, and may have 1966080 at most"],
  [{ workingDir: "rel" }, 'the working directory "rel": it must be absolute'],
  [{ workingDir: "/a\0" }, "it must not hold NUL characters"],
  [{ workingDir: "/a".repeat(2048) }, "it must have fewer than 4096 bytes"],
  [{ workingDir: `/${"a".repeat(256)}` }, "each name in it must have 255 bytes at most"],
  [context({ maskedPaths: ["/proc/../etc"] }), 'the masked path "/proc/../etc": it must not have'],
  [context({ readonlyPaths: ["proc"] }), 'the read-only path "proc": it must be absolute'],
  [context({ namespaceOptions: { ipc: 7 as NamespaceMode } }), "the mode 7 of the ipc namespace"],
  [context({ seccomp: { profileType: NO_PROFILE } }), "a seccomp profile of the type 5"],
  [context({ apparmor: { profileType: NO_PROFILE } }), "an AppArmor profile of the type 5"],
  [
    context({ supplementalGroupsPolicy: 5 as SupplementalGroupsPolicy }),
    "the policy 5 for supplemental groups",
  ],
];

for (const [config, message] of REFUSED) {
  Deno.test(`writeSpec() refuses a container, since ${message}`, () => {
    assertThrows(() => spec(config), CriError, message);
  });
}

for (const [mostOpenFiles, soft] of [[20_000, 1024], [512, 512]] as const) {
  Deno.test(`writeSpec() lets programs open ${soft} files at first when the node lets ${mostOpenFiles}`, () => {
    const limit = { type: "RLIMIT_NOFILE" as const, soft, hard: mostOpenFiles };
    assertEquals(spec({}, { mostOpenFiles }).process.rlimits, [limit]);
  });
}
