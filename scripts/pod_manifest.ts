import { parseAll } from "@std/yaml";

/** What crictl's `runp` and `create` read, as the kubelet would make it of a Pod. */
export interface CriPod {
  sandbox: CriSandboxJson;
  containers: { name: string; image: string; config: CriContainerJson }[];
  runtimeHandler: string;
}

export interface CriSandboxJson {
  metadata: { name: string; namespace: string; uid: string; attempt: number };
  hostname: string;
  log_directory: string;
  labels: Record<string, string>;
  annotations: Record<string, string>;
  linux: Record<string, unknown>;
}

export interface CriContainerJson {
  metadata: { name: string; attempt: number };
  image: { image: string };
  command: string[];
  args: string[];
  working_dir: string;
  envs: { key: string; value: string }[];
  labels: Record<string, string>;
  annotations: Record<string, string>;
  log_path: string;
  mounts: { host_path: string; container_path: string; readonly: boolean }[];
  linux: Record<string, unknown>;
}

interface Metadata {
  name?: string;
  namespace?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
}

interface PodSpec {
  runtimeClassName?: string;
  containers: PodContainer[];
  volumes?: { name: string; persistentVolumeClaim?: { claimName: string } }[];
}

interface Manifest {
  kind: string;
  metadata: Metadata & { name: string };
  stringData?: Record<string, string>;
  /** Of a Pod its own, of a Job that of its pods. */
  spec?: PodSpec & { template?: { metadata?: Metadata; spec: PodSpec } };
}

interface PodContainer {
  name: string;
  image: string;
  command?: string[];
  args?: string[];
  workingDir?: string;
  env?: {
    name: string;
    value?: string;
    valueFrom?: { secretKeyRef: { name: string; key: string } };
  }[];
  volumeMounts?: { name: string; mountPath: string; readOnly?: boolean }[];
}

/** Where a kubelet keeps what it mounts. */
const KUBELET_PODS = "/var/lib/kubelet/pods";

/**
 * Reads a file with one Pod, or a Job whose first pod it makes, and the Secrets it uses. `secretValues` replaces
 * entries of every Secret's stringData, so that a manifest with example credentials runs with real ones. Claims are
 * taken for those of NFS volumes that have their names.
 * @throws Error with a sentence when the file holds no Pod or names an unknown Secret or volume.
 */
export function readPodManifest(
  yaml: string,
  options: { uid: string; podLogsDir: string; secretValues?: Record<string, string> },
): CriPod {
  const documents = (parseAll(yaml) as (Manifest | null)[]).filter((document) => document !== null);
  const pod = documents.map(podOf).find((found) => found !== undefined);
  if (pod === undefined) throw new Error("The manifest must hold a Pod or a Job: none was found.");
  const secrets = new Map(
    documents.filter((document) => document.kind === "Secret").map((secret) => [
      secret.metadata.name,
      { ...secret.stringData, ...options.secretValues },
    ]),
  );
  const namespace = pod.metadata.namespace ?? "default";
  const { name } = pod.metadata;
  const kubernetesLabels = {
    "io.kubernetes.pod.name": name,
    "io.kubernetes.pod.namespace": namespace,
    "io.kubernetes.pod.uid": options.uid,
  };
  return {
    runtimeHandler: pod.spec.runtimeClassName ?? "",
    sandbox: {
      metadata: { name, namespace, uid: options.uid, attempt: 0 },
      hostname: name,
      log_directory: `${options.podLogsDir}/${namespace}_${name}_${options.uid}`,
      labels: { ...pod.metadata.labels, ...kubernetesLabels },
      annotations: pod.metadata.annotations ?? {},
      linux: {},
    },
    containers: pod.spec.containers.map((container) => ({
      name: container.name,
      image: container.image,
      config: {
        metadata: { name: container.name, attempt: 0 },
        image: { image: container.image },
        command: container.command ?? [],
        args: container.args ?? [],
        working_dir: container.workingDir ?? "",
        envs: (container.env ?? []).map(({ name, value, valueFrom }) => ({
          key: name,
          value: value ?? secretValue(secrets, valueFrom?.secretKeyRef),
        })),
        labels: { ...kubernetesLabels, "io.kubernetes.container.name": container.name },
        annotations: {},
        log_path: `${container.name}/0.log`,
        mounts: (container.volumeMounts ?? []).map(({ name, mountPath, readOnly = false }) => ({
          host_path: volumePath(pod.spec, name, options.uid),
          // The kubelet's own rule for a relative path.
          container_path: mountPath.startsWith("/") ? mountPath : `/${mountPath}`,
          readonly: readOnly,
        })),
        linux: {},
      },
    })),
  };
}

function podOf({ kind, metadata, spec }: Manifest): {
  metadata: Metadata & { name: string };
  spec: PodSpec;
} | undefined {
  if (kind === "Pod" && spec !== undefined) return { metadata, spec };
  if (kind !== "Job" || spec?.template === undefined) return undefined;
  const { namespace = "default", name } = metadata;
  // The controller of Jobs puts five characters behind.
  return {
    metadata: { namespace, ...spec.template.metadata, name: `${name}-x7k2p` },
    spec: spec.template.spec,
  };
}

function volumePath({ volumes = [] }: PodSpec, name: string, uid: string): string {
  const claim = volumes.find((volume) => volume.name === name)?.persistentVolumeClaim?.claimName;
  if (claim === undefined) {
    throw new Error(`The manifest's volume ${name} must be there, with a persistentVolumeClaim.`);
  }
  return `${KUBELET_PODS}/${uid}/volumes/kubernetes.io~nfs/${claim}`;
}

function secretValue(
  secrets: ReadonlyMap<string, Record<string, string>>,
  reference: { name: string; key: string } | undefined,
): string {
  const value = secrets.get(reference?.name ?? "")?.[reference?.key ?? ""];
  if (value !== undefined) return value;
  if (reference === undefined) {
    throw new Error("Each env entry of the manifest must have a value or a secretKeyRef.");
  }
  throw new Error(`The manifest's Secret ${reference.name} must have the key ${reference.key}.`);
}
