import { assertEquals, assertThrows } from "@std/assert";
import { CriError } from "../../base/error.ts";
import { ContainerConfig, Mount } from "../../cri/api.generated.ts";
import { checkMounts } from "./mounts.ts";

const KUBELET = "/var/lib/kubelet";
const VOLUME = `${KUBELET}/pods/u/volumes/kubernetes.io~empty-dir/data`;
const MOUNTS: readonly [mount: Partial<Mount>, code?: string, words?: string][] = [
  [{ containerPath: "/etc/hosts" }],
  [{
    containerPath: "/multicri",
    hostPath: `${KUBELET}/pods/u/volumes/kubernetes.io~nfs/results`,
  }],
  [{ containerPath: "/multicri", hostPath: VOLUME }, "INVALID_ARGUMENT", "persistent volume"],
  [{ containerPath: "/var/run/secrets/kubernetes.io/serviceaccount" }],
  ...[
    "/data",
    "/etc/hosts/x",
    "/x/etc/hosts",
    "/var/run/secrets/kubernetes.io/serviceaccount/token",
    "",
  ]
    .map((containerPath): [Partial<Mount>, string, string] => [
      { containerPath, hostPath: VOLUME },
      "UNIMPLEMENTED",
      `Cannot mount "${containerPath}" into the container: volumes are not available`,
    ]),
  [{ containerPath: "/image", hostPath: "" }, "UNIMPLEMENTED", "volumes are not available"],
  ...["/srv/data", `${KUBELET}-x/y`, `${KUBELET}/../x`, KUBELET]
    .map((hostPath): [Partial<Mount>, string, string] => [
      { containerPath: "/data", hostPath },
      "INVALID_ARGUMENT",
      `Cannot mount "${hostPath}" at "/data" into the container: it is a path of the Kubernetes node`,
    ]),
];

const check = (mounts: Partial<Mount>[], annotations: Record<string, string> = {}) =>
  checkMounts(
    ContainerConfig.fromPartial({ annotations, mounts: mounts.map((m) => Mount.fromPartial(m)) }),
    KUBELET,
  );

for (const [mount, code, words] of MOUNTS) {
  Deno.test(`checkMounts() ${code === undefined ? "accepts" : "refuses"} ${JSON.stringify(mount)}`, () => {
    const mounts = [{ containerPath: "/etc/hosts" }, mount];
    if (code === undefined) return assertEquals(check(mounts), undefined);
    const error = assertThrows(() => check(mounts), CriError, words) as CriError;
    assertEquals(error.code, code);
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
