import { assertEquals, assertThrows } from "@std/assert";
import { CriError } from "../../base/error.ts";
import { ContainerConfig, Mount } from "../../cri/api.generated.ts";
import { planMounts } from "./mounts.ts";

const KUBELET = "/var/lib/kubelet";
const POD = `${KUBELET}/pods/u`;
const VOLUMES = `${POD}/volumes`;

function plan(
  mounts: readonly Partial<Mount>[],
  annotations: Record<string, string> = {},
  ofPod: Record<string, string> = {},
) {
  const config = { annotations, mounts: mounts.map((mount) => Mount.fromPartial(mount)) };
  const metadata = { name: "p", namespace: "ns", uid: "u", attempt: 0 };
  const sandbox = { annotations: ofPod, metadata };
  return planMounts(ContainerConfig.fromPartial(config), sandbox, KUBELET);
}

const SOURCES: readonly [mount: Partial<Mount>, source: Record<string, unknown>][] = [
  [{ hostPath: `${POD}/etc-hosts` }, { kind: "hosts", hostPath: `${POD}/etc-hosts` }],
  ...["configmap", "secret", "projected", "downward-api"].map((
    plugin,
  ): [Partial<Mount>, Record<string, unknown>] => {
    const hostPath = `${VOLUMES}/kubernetes.io~${plugin}/my.volume`;
    return [{ hostPath }, { kind: "copied", hostPath }];
  }),
  [
    { hostPath: `${VOLUMES}/kubernetes.io~empty-dir/scratch` },
    { kind: "shared", volume: "scratch" },
  ],
  [
    { hostPath: `${POD}/volume-subpaths/config/main/3` },
    {
      kind: "part",
      volume: "config",
      hostPath: `${POD}/volume-subpaths/config/main/3`,
      podDirectory: POD,
    },
  ],
];
for (const [mount, source] of SOURCES) {
  Deno.test(`planMounts() knows what is at ${mount.hostPath}`, () => {
    const planned = plan([{ containerPath: "/data", readonly: true, ...mount }]);
    assertEquals(planned, [{ destination: "/data", readonly: true, ...source }] as typeof planned);
  });
}

const SCRATCH = `${VOLUMES}/kubernetes.io~empty-dir/scratch`;
const DESTINATIONS: readonly [containerPath: string, destination: string][] = [
  ["/data/", "/data"],
  ["/a/../b", "/b"],
  ["/../../b", "/b"],
  ["data", "/data"],
  [`/it's "my", a:b $(id)`, `/it's "my", a:b $(id)`],
  ["/dev/shm", "/dev/shm"],
  ["/devices", "/devices"],
];
for (const [containerPath, destination] of DESTINATIONS) {
  Deno.test(`planMounts() mounts at ${destination} what is asked for at ${containerPath}`, () => {
    const [planned] = plan([{ containerPath, hostPath: SCRATCH }]);
    assertEquals(planned?.destination, destination);
  });
}

Deno.test("planMounts() puts first what would hide others", () => {
  const mounts = ["/a/b/c", "/a", "/x/y", "/a/b"].map((containerPath) => ({
    containerPath,
    hostPath: SCRATCH,
  }));
  const order = plan(mounts).map(({ destination }) => destination);
  assertEquals(order, ["/a", "/x/y", "/a/b", "/a/b/c"]);
});

Deno.test("planMounts() finds the volume that the cluster has", () => {
  const hostPath = `${VOLUMES}/kubernetes.io~nfs/nfs-vol1`;
  for (const containerPath of ["multicri", "/multicri"]) {
    assertEquals(plan([{ containerPath, hostPath }]), [
      { destination: "/multicri", readonly: false, kind: "volume", claim: "nfs-vol1" },
    ]);
  }
});

Deno.test("planMounts() finds a part of the volume that the cluster has", () => {
  const hostPath = `${POD}/volume-subpaths/nfs-vol1/main/0`;
  const part = { volume: "nfs-vol1", hostPath, podDirectory: POD };
  const place = { destination: "/multicri", readonly: false, kind: "volume" } as const;
  assertEquals(plan([{ containerPath: "multicri", hostPath }]), [
    { ...place, claim: "nfs-vol1", part: { ...part, ofAnyVolume: false } },
  ]);
  assertEquals(plan([{ containerPath: "multicri", hostPath }], {}, { "multicri.io/volume": "x" }), [
    { ...place, claim: "x", part: { ...part, ofAnyVolume: true } },
  ]);
});

const REFUSALS: readonly [mount: Partial<Mount>, words: string][] = [
  ...["/srv/data", `${KUBELET}-x/pods/u/etc-hosts`, `${KUBELET}/pods/u/../v/etc-hosts`, KUBELET, ""]
    .map((
      hostPath,
    ): [Partial<Mount>, string] => [{ hostPath }, "is a path of the Kubernetes node"]),
  [
    { hostPath: `${KUBELET}/pods/other/volumes/kubernetes.io~secret/s` },
    "belongs to another pod",
  ],
  ...[
    `${VOLUMES}/kubernetes.io~csi/pvc-1/mount`,
    `${VOLUMES}/kubernetes.io~nfs/results`,
    `${VOLUMES}/kubernetes.io~secret/s/token`,
    `${POD}/plugins/x`,
    POD,
  ].map((hostPath): [Partial<Mount>, string] => [
    { hostPath },
    "is a volume whose files only the node has",
  ]),
  [{ hostPath: SCRATCH, propagation: 1 }, "mountPropagation"],
  [{ hostPath: SCRATCH, recursiveReadOnly: true }, "recursiveReadOnly"],
  [{ hostPath: SCRATCH, image: { image: "x" } as Mount["image"] }, "an image as a volume"],
  [{ hostPath: SCRATCH, uidMappings: [{ hostId: 0, containerId: 0, length: 1 }] }, "mapped users"],
  [{ hostPath: SCRATCH, containerPath: "/multicri" }, "a persistent volume"],
  ...["/multicri", "/part"].map((containerPath): [Partial<Mount>, string] => [
    { hostPath: `${KUBELET}/pods/other/volume-subpaths/nfs-vol1/main/0`, containerPath },
    "belongs to another pod",
  ]),
  ...["", "/", "/..", "/dev", "/dev/sda", "/proc/1", "/sys", "/.multicri/results"].map((
    containerPath,
  ): [Partial<Mount>, string] => [{ hostPath: SCRATCH, containerPath }, "Cannot mount"]),
  [{ hostPath: SCRATCH, containerPath: "/a\nb" }, "no control characters"],
];
for (const [mount, words] of REFUSALS) {
  Deno.test(`planMounts() refuses ${JSON.stringify(mount)}`, () => {
    const error = assertThrows(
      () => plan([{ containerPath: "/data", ...mount }]),
      CriError,
      words,
    ) as CriError;
    assertEquals(error.code, "INVALID_ARGUMENT");
  });
}

Deno.test("planMounts() refuses a second volume at /multicri, however it is spelt", () => {
  const volume = { hostPath: `${VOLUMES}/kubernetes.io~nfs/results` };
  const mounts = ["/multicri", "/multicri/"].map((containerPath) => ({ ...volume, containerPath }));
  assertThrows(() => plan(mounts), CriError, "something else is mounted at /multicri");
});

const OWN_PATH = { "io.kubernetes.container.terminationMessagePath": "/out/message" };
const FILE = `${POD}/containers/main/1a2b`;
Deno.test("planMounts() mounts a termination message, but not below /dev", () => {
  assertEquals(plan([{ containerPath: "/dev/termination-log", hostPath: FILE }]), []);
  assertEquals(plan([{ containerPath: "/out/message", hostPath: FILE }], OWN_PATH), [
    { destination: "/out/message", readonly: false, kind: "termination" },
  ]);
});
for (const hostPath of ["/etc/passwd", `${KUBELET}/pods/../x`]) {
  Deno.test(`planMounts() refuses a termination message when its file is ${hostPath}`, () => {
    const mount = { containerPath: "/out/message", hostPath };
    assertThrows(() => plan([mount], OWN_PATH), CriError, "--kubelet-root-dir");
  });
}
