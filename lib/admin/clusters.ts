import { type Clusters, LOGIN_VARIABLES } from "../config/clusters.ts";
import type { ClusterLogin } from "../executors/ssh/login.ts";
import { readSettings } from "../adapters/slurm/settings.ts";

/** The name of the login that stands in the command's own environment. */
export const ENVIRONMENT_CLUSTER = "env";

/**
 * The logins that an administrator's command may use, by name: those that the node keeps, and one in the environment,
 * for clusters that only pods have logins for.
 * @throws CriError INVALID_ARGUMENT when the environment's is none that can be used.
 */
export function knownLogins(
  clusters: Clusters,
  env: (name: string) => string | undefined,
): Map<string, ClusterLogin> {
  const logins = new Map([...clusters.named].map(([name, { login }]) => [name, login]));
  if (env("CLUSTER_HOST") === undefined) return logins;
  const variables = LOGIN_VARIABLES.flatMap((key) => {
    const value = env(key);
    return value === undefined ? [] : [{ key, value: new TextEncoder().encode(value) }];
  });
  const { cluster } = readSettings(
    variables,
    { annotations: {}, metadata: undefined },
    { allowed: clusters.allowed, named: new Map(), defaultName: undefined },
  );
  if (cluster.kind === "own") logins.set(ENVIRONMENT_CLUSTER, cluster.login);
  return logins;
}
