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
  linux: Record<string, unknown>;
}

interface Manifest {
  kind: string;
  metadata: {
    name: string;
    namespace?: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
  };
  stringData?: Record<string, string>;
  spec?: { runtimeClassName?: string; containers: PodContainer[] };
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
}

/**
 * Reads a file with one Pod and the Secrets it uses. `secretValues` replaces entries of every Secret's
 * stringData, so that a manifest with example credentials runs with real ones.
 * @throws Error with a sentence when the file holds no Pod or names an unknown Secret.
 */
export function readPodManifest(
  yaml: string,
  options: { uid: string; podLogsDir: string; secretValues?: Record<string, string> },
): CriPod {
  const documents = (parseAll(yaml) as (Manifest | null)[]).filter((document) => document !== null);
  const pod = documents.find((document) => document.kind === "Pod");
  if (pod?.spec === undefined) throw new Error("The manifest must hold a Pod: none was found.");
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
        linux: {},
      },
    })),
  };
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
