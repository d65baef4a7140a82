import { assertEquals, assertThrows } from "@std/assert";
import { CriError } from "../../base/error.ts";
import { ContainerConfig, Mount } from "../../cri/api.generated.ts";
import { checkMounts } from "./mounts.ts";

const PATHS: readonly [containerPath: string, accepted: boolean][] = [
  ["/etc/hosts", true],
  ["/var/run/secrets/kubernetes.io/serviceaccount", true],
  ["/data", false],
  ["/etc/hosts/x", false],
  ["/x/etc/hosts", false],
  ["/var/run/secrets/kubernetes.io/serviceaccount/token", false],
  ["", false],
];

const KUBELET = "/var/lib/kubelet";
const check = (mounts: Partial<Mount>[], annotations: Record<string, string> = {}) =>
  checkMounts(
    ContainerConfig.fromPartial({ annotations, mounts: mounts.map((m) => Mount.fromPartial(m)) }),
    KUBELET,
  );

for (const [containerPath, accepted] of PATHS) {
  Deno.test(`checkMounts() ${accepted ? "accepts" : "refuses"} a mount at '${containerPath}'`, () => {
    const mounts = [{ containerPath: "/etc/hosts" }, { containerPath }];
    if (accepted) return assertEquals(check(mounts), undefined);
    const error = assertThrows(
      () => check(mounts),
      CriError,
      `Cannot mount "${containerPath}"`,
    ) as CriError;
    assertEquals(error.code, "UNIMPLEMENTED");
  });
}

const OWN_PATH = { "io.kubernetes.container.terminationMessagePath": "/out/message" };
const FILE = `${KUBELET}/pods/u/containers/main/1a2b`;
const TERMINATIONS: readonly [Partial<Mount>, Record<string, string>, string | undefined][] = [
  [{ containerPath: "/dev/termination-log", hostPath: FILE }, {}, undefined],
  [{ containerPath: "/out/message", hostPath: FILE }, OWN_PATH, undefined],
  [
    { containerPath: "/dev/termination-log", hostPath: FILE },
    OWN_PATH,
    "volumes are not available",
  ],
  [{ containerPath: "/dev/termination-log", hostPath: "/etc/passwd" }, {}, "--kubelet-root-dir"],
  [
    { containerPath: "/dev/termination-log", hostPath: `${KUBELET}/pods/../x` },
    {},
    "--kubelet-root-dir",
  ],
  [
    { containerPath: "/a:b", hostPath: FILE },
    { "io.kubernetes.container.terminationMessagePath": "/a:b" },
    "without colons",
  ],
];
for (const [mount, annotations, refusal] of TERMINATIONS) {
  const outcome = refusal === undefined ? "accepts" : "refuses";
  Deno.test(`checkMounts() ${outcome} a termination message when it is ${JSON.stringify([mount, annotations])}`, () => {
    if (refusal === undefined) return assertEquals(check([mount], annotations), undefined);
    assertThrows(() => check([mount], annotations), CriError, refusal);
  });
}
