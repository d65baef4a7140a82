import type { KeyValue } from "../../cri/api.generated.ts";
import type { ClusterLogin } from "../../executors/ssh/login.ts";
import type { SecretFiles } from "../../store/secret_files.ts";

/** What a container needs that no database may hold. */
export interface ContainerSecrets {
  login: ClusterLogin;
  /** The whole environment; only until the job is submitted. */
  envs?: KeyValue[];
}

/** Keeps a container's secrets, environment values as base64, because they are bytes. */
export async function writeSecrets(
  files: SecretFiles,
  containerId: string,
  { login, envs }: ContainerSecrets,
): Promise<void> {
  await files.write(containerId, {
    login,
    ...(envs ? { envs: envs.map(({ key, value }) => [key, value.toBase64()]) } : {}),
  });
}

/** The secrets of a container, undefined when there are none. */
export async function readSecrets(
  files: SecretFiles,
  containerId: string,
): Promise<ContainerSecrets | undefined> {
  const json = await files.read(containerId) as
    | { login: ClusterLogin; envs?: [string, string][] }
    | undefined;
  if (json === undefined) return undefined;
  return {
    login: json.login,
    ...(json.envs
      ? { envs: json.envs.map(([key, value]) => ({ key, value: Uint8Array.fromBase64(value) })) }
      : {}),
  };
}
