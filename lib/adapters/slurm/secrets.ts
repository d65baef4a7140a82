import type { KeyValue } from "../../cri/api.generated.ts";
import type { SecretFiles } from "../../store/secret_files.ts";
import type { ClusterChoice } from "./settings.ts";

/** What a container needs that no database may hold. */
export interface ContainerSecrets {
  cluster: ClusterChoice;
  /** The whole environment; only until the job is submitted. */
  envs?: KeyValue[];
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
  const json = await files.read(containerId) as
    | { cluster: ClusterChoice; envs?: [string, string][] }
    | undefined;
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
  const secrets = await readSecrets(files, containerId);
  if (secrets?.envs !== undefined) {
    await writeSecrets(files, containerId, { cluster: secrets.cluster });
  }
}
