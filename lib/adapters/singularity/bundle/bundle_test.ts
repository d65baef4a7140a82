import { assertEquals, assertThrows } from "@std/assert";
import { CriError } from "../../../base/error.ts";
import {
  ContainerConfig,
  PodSandboxConfig,
  SecurityProfile_ProfileType,
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

const REFUSED: [config: Config, message: string][] = [
  [{ command: ["sh", "-c", "a\0b"] }, 'its argument "a" must not hold a null byte'],
  [{ envs: [{ key: "A", value: new Uint8Array([0x62, 0]) }] }, 'its variable "A" must not'],
  [{ command: [""] }, "must set a command"],
];

for (const [config, message] of REFUSED) {
  Deno.test(`writeSpec() refuses a container, since ${message}`, () => {
    assertThrows(() => spec(config), CriError, message);
  });
}
