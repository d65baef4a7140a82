import { assertEquals, assertThrows } from "@std/assert";
import { CriError } from "../../base/error.ts";
import { ContainerConfig, Mount } from "../../cri/api.generated.ts";
import { volumeClaim, volumeMount } from "./volume.ts";

const KUBELET = "/var/lib/kubelet";
const VOLUMES = `${KUBELET}/pods/u/volumes`;
const SANDBOX_ID = "0123456789abcdef".repeat(4);

for (
  const [hostPath, claim] of [
    [`${VOLUMES}/kubernetes.io~nfs/results`, "results"],
    [`${VOLUMES}/kubernetes.io~csi/pvc-1a2b/mount`, "pvc-1a2b"],
    [`${VOLUMES}/kubernetes.io~nfs/.images`, undefined],
    [`${VOLUMES}/kubernetes.io~nfs/..`, undefined],
    [`${VOLUMES}/kubernetes.io~nfs/${SANDBOX_ID}`, undefined],
    [`${VOLUMES}/kubernetes.io~csi/${SANDBOX_ID}/mount`, undefined],
    [`${VOLUMES}/kubernetes.io~nfs/${SANDBOX_ID}0`, `${SANDBOX_ID}0`],
    [`${VOLUMES}/kubernetes.io~nfs/`, undefined],
    [`${VOLUMES}/kubernetes.io~nfs/a/b`, undefined],
    [`${VOLUMES}/kubernetes.io~csi/pvc-1a2b`, undefined],
    [`${VOLUMES}/kubernetes.io~csi/pvc-1a2b/mount/x`, undefined],
    [`${VOLUMES}/kubernetes.io~empty-dir/results`, undefined],
    [`${VOLUMES}/kubernetes.io~nfs/a,b`, undefined],
    [`${KUBELET}/pods/u/volume-subpaths/results/main/0`, "results"],
    [`${KUBELET}/pods/u/volume-subpaths/${SANDBOX_ID}/main/0`, undefined],
    [`${KUBELET}/pods/u/volume-subpaths/results/main/0/x`, undefined],
    [`${KUBELET}/pods/u/volume-subpaths/results/../0`, undefined],
    ["/srv/results", undefined],
    [`${KUBELET}/pods`, undefined],
  ] as const
) {
  Deno.test(`volumeClaim() ${claim === undefined ? "refuses" : "finds"} it when the path is ${hostPath}`, () => {
    const find = () => volumeClaim(Mount.fromPartial({ hostPath }), { annotations: {} }, KUBELET);
    if (claim !== undefined) return assertEquals(find(), claim);
    const error = assertThrows(find, CriError, "a persistent volume") as CriError;
    assertEquals(error.code, "INVALID_ARGUMENT");
  });
}

Deno.test("volumeMount() takes the seed's relative path, and other spellings, for the same", () => {
  for (
    const containerPath of ["multicri", "/multicri", "/multicri/", "multicri/", "//x/../multicri"]
  ) {
    const config = ContainerConfig.fromPartial({ mounts: [{ containerPath }] });
    assertEquals(volumeMount(config)?.containerPath, containerPath);
  }
  assertEquals(
    volumeMount(ContainerConfig.fromPartial({ mounts: [{ containerPath: "/x" }] })),
    undefined,
  );
});

for (
  const [annotation, claim] of [
    ["nfs-vol1", "nfs-vol1"],
    [`my "own" vol's, a:b\\c`, `my "own" vol's, a:b\\c`],
    ["é".repeat(127), "é".repeat(127)],
    ["é".repeat(128), undefined],
    ["..", undefined],
    ["../x", undefined],
    [".images", undefined],
    [SANDBOX_ID, undefined],
    [SANDBOX_ID.toUpperCase(), undefined],
    [SANDBOX_ID.slice(1), SANDBOX_ID.slice(1)],
    ["a/b", undefined],
    ["a\nb", undefined],
    ["", undefined],
  ] as const
) {
  Deno.test(`volumeClaim() ${claim === undefined ? "refuses" : "takes"} the annotation when it is ${JSON.stringify(annotation)}`, () => {
    const mount = Mount.fromPartial({ hostPath: `${VOLUMES}/kubernetes.io~nfs/results` });
    const annotations = { "multicri.io/volume": annotation };
    const find = () => volumeClaim(mount, { annotations }, KUBELET);
    if (claim !== undefined) return assertEquals(find(), claim);
    assertThrows(find, CriError, "multicri.io/volume");
  });
}
