import type { ClusterChoice } from "../../config/clusters.ts";
import type { KeyValue } from "../../cri/api.generated.ts";
import type { SecretFiles } from "../../store/secret_files.ts";

/** What a container needs that no database may hold. */
export interface ContainerSecrets {
  cluster: ClusterChoice;
  /** The whole environment; only until the job is submitted. */
  envs?: KeyValue[];
}

/** As they lie in the file. */
interface StoredSecrets {
  cluster: ClusterChoice;
  /** Values as base64. */
  envs?: [string, string][];
}

/** Keeps a container's secrets, environment values as base64, because they are bytes. */
export async function writeSecrets(
  files: SecretFiles,
  containerId: string,
  { cluster, envs }: ContainerSecrets,
): Promise<void> {
  await files.write(containerId, {
    cluster,
    ...(envs ? { envs: envs.map(({ key, value }) => [key, value.toBase64()]) } : {}),
  });
}

/** The secrets of a container, undefined when there are none. */
export async function readSecrets(
  files: SecretFiles,
  containerId: string,
): Promise<ContainerSecrets | undefined> {
  const json = await files.read(containerId) as StoredSecrets | undefined;
  if (json === undefined) return undefined;
  return {
    cluster: json.cluster,
    ...(json.envs
      ? { envs: json.envs.map(([key, value]) => ({ key, value: Uint8Array.fromBase64(value) })) }
      : {}),
  };
}

/** Keeps only the login: the job has the environment now. */
export async function forgetEnvironment(files: SecretFiles, containerId: string): Promise<void> {
  await files.update(containerId, (json) => {
    const { cluster, envs } = json as StoredSecrets;
    return envs === undefined ? undefined : { cluster };
  });
}
