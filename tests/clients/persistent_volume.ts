/** A persistent volume whose files a directory of the node stands for, bound without the controllers that do that. */
import type { ControlPlane } from "../../scripts/lab/control_plane.ts";
import { NODE_NAME } from "../../scripts/lab/kubelet.ts";

/**
 * Makes a claim, and a volume of the same name that is bound to it.
 * @param path Of the node; it must be there.
 */
export async function bindVolume(plane: ControlPlane, name: string, path: string): Promise<void> {
  const apply = (object: Record<string, unknown>) =>
    plane.kubectlOk(["apply", "-f", "-"], JSON.stringify({ apiVersion: "v1", ...object }));
  const capacity = { storage: "1Mi" };
  const common = { accessModes: ["ReadWriteMany"], storageClassName: "" };
  await apply({
    kind: "PersistentVolumeClaim",
    metadata: { name, namespace: "default" },
    spec: { ...common, volumeName: name, resources: { requests: capacity } },
  });
  const uid = await plane.kubectlOk(["get", "pvc", name, "--output", "jsonpath={.metadata.uid}"]);
  const onNode = { key: "kubernetes.io/hostname", operator: "In", values: [NODE_NAME] };
  await apply({
    kind: "PersistentVolume",
    metadata: { name },
    spec: {
      ...common,
      capacity,
      local: { path },
      nodeAffinity: { required: { nodeSelectorTerms: [{ matchExpressions: [onNode] }] } },
      claimRef: { kind: "PersistentVolumeClaim", namespace: "default", name, uid: uid.trim() },
    },
  });
  // Without the capacity the kubelet panics.
  const bound = JSON.stringify({ status: { phase: "Bound", capacity } });
  await plane.kubectlOk(["patch", "pvc", name, "--subresource", "status", "--patch", bound]);
}
