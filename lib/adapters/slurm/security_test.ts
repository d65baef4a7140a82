import { assertEquals, assertThrows } from "@std/assert";
import { CriError } from "../../base/error.ts";
import {
  ContainerConfig,
  NamespaceMode,
  PodSandboxConfig,
  SecurityProfile_ProfileType,
} from "../../cri/api.generated.ts";
import { leftOut, refuseUnavailable } from "./security.ts";

type Container = Parameters<typeof ContainerConfig.fromPartial>[0];
type Context = NonNullable<NonNullable<Container["linux"]>["securityContext"]>;
type Sandbox = Parameters<typeof PodSandboxConfig.fromPartial>[0];

const secured = (securityContext: Context): Container => ({ linux: { securityContext } });
const RUNTIME_DEFAULT = { profileType: SecurityProfile_ProfileType.RuntimeDefault };
const LOCALHOST = { profileType: SecurityProfile_ProfileType.Localhost, localhostRef: "own" };

function configs(container: Container, sandbox: Sandbox): [ContainerConfig, PodSandboxConfig] {
  return [
    ContainerConfig.fromPartial({ metadata: { name: "main" }, ...container }),
    PodSandboxConfig.fromPartial(sandbox),
  ];
}

function shown(value: unknown): string {
  return JSON.stringify(value, (_key, part) => typeof part === "bigint" ? String(part) : part);
}

const REFUSED: readonly [what: string, Container, Sandbox?][] = [
  ["securityContext.privileged", secured({ privileged: true })],
  [
    "securityContext.capabilities.add",
    secured({ capabilities: { addCapabilities: ["NET_ADMIN"] } }),
  ],
  [
    "securityContext.capabilities.add",
    secured({ capabilities: { addAmbientCapabilities: ["NET_RAW"] } }),
  ],
  ['devices ("/dev/fuse")', { devices: [{ hostPath: "/dev/fuse", containerPath: "/dev/fuse" }] }],
  ['devices ("/dev/b", "vendor.com/gpu=0")', {
    devices: [{ hostPath: "/dev/a", containerPath: "/dev/b" }],
    CDIDevices: [{ name: "vendor.com/gpu=0" }],
  }],
  ["securityContext.sysctls", {}, { linux: { sysctls: { "net.core.somaxconn": "1" } } }],
  ["runAsGroup without runAsUser", secured({ runAsGroup: { value: 5n } })],
  ["hostPID", secured({ namespaceOptions: { pid: NamespaceMode.NODE } })],
  ["hostIPC", secured({ namespaceOptions: { ipc: NamespaceMode.NODE } })],
  ["a target container", secured({ namespaceOptions: { pid: NamespaceMode.TARGET } })],
  ["a seccomp profile of the node", secured({ seccomp: LOCALHOST })],
  ["an AppArmor profile of the node", secured({ apparmor: LOCALHOST })],
];

for (const [what, container, sandbox = {}] of REFUSED) {
  Deno.test(`refuseUnavailable() refuses ${what} when asked by ${shown({ container, sandbox })}`, () => {
    const error = assertThrows(
      () => refuseUnavailable(...configs(container, sandbox)),
      CriError,
      `Cannot run the container main as a Slurm job with ${what}: `,
    );
    assertEquals(error.code, "INVALID_ARGUMENT");
  });
}

Deno.test("refuseUnavailable() names everything when several things cannot be had", () => {
  const container = secured({ privileged: true, namespaceOptions: { pid: NamespaceMode.NODE } });
  assertThrows(
    () => refuseUnavailable(...configs(container, {})),
    CriError,
    "with securityContext.privileged, hostPID: ",
  );
});

const LEFT_OUT: readonly [lines: string[], Container, Sandbox?][] = [
  [["runAsUser and runAsGroup"], secured({ runAsUser: { value: 0n } })],
  [["runAsUser and runAsGroup"], secured({ runAsUser: { value: 1n }, runAsGroup: { value: 5n } })],
  [["runAsUser and runAsGroup"], secured({ runAsUsername: "u" })],
  [["supplementalGroups and fsGroup"], secured({ supplementalGroups: [7n] })],
  [["seLinuxOptions"], secured({ selinuxOptions: { level: "s0" } })],
  [["shareProcessNamespace"], secured({ namespaceOptions: { pid: NamespaceMode.POD } })],
  [["hostPort"], {}, { portMappings: [{ hostPort: 80, containerPort: 80 }] }],
];

for (const [expected, container, sandbox = {}] of LEFT_OUT) {
  Deno.test(
    `leftOut() tells of ${expected.join(" and ")} when there is ${shown({ container, sandbox })}`,
    () => {
      const both = configs(container, sandbox);
      assertEquals(
        leftOut(...both).map((line) => line.replace(/^left out: ([^:]*).*$/, "$1")),
        expected,
      );
      assertEquals(refuseUnavailable(...both), undefined);
    },
  );
}

/** What only takes rights away, as a job has none to take. */
const HONOURED: readonly [Container, Sandbox?][] = [
  [{}],
  [secured({ capabilities: { dropCapabilities: ["ALL"] }, noNewPrivs: true })],
  [secured({ readonlyRootfs: true, maskedPaths: ["/proc/kcore"], readonlyPaths: ["/proc/sys"] })],
  [secured({ seccomp: RUNTIME_DEFAULT, apparmor: RUNTIME_DEFAULT })],
  [secured({ namespaceOptions: { pid: NamespaceMode.CONTAINER, network: NamespaceMode.NODE } })],
  [{}, { portMappings: [{ containerPort: 80 }] }],
];

for (const [container, sandbox = {}] of HONOURED) {
  Deno.test(`refuseUnavailable() and leftOut() have no word for ${JSON.stringify({ container, sandbox })}`, () => {
    const both = configs(container, sandbox);
    assertEquals([refuseUnavailable(...both), leftOut(...both)], [undefined, []]);
  });
}
