import { dirname, isAbsolute, join } from "@std/path";
import { CriError, messageOf } from "../base/error.ts";
import type { ContainerConfig, PodSandboxConfig } from "../cri/api.generated.ts";

/** Where a container's log lies (api.proto, log_directory and log_path); empty when its client wants none. */
export function logPathOf(
  { logDirectory }: Pick<PodSandboxConfig, "logDirectory">,
  { logPath }: Pick<ContainerConfig, "logPath">,
): string {
  return logPath === "" || logDirectory === "" ? "" : join(logDirectory, logPath);
}

/**
 * Checks that a container's log lies where the administrator lets the server write, and that no link leads elsewhere.
 * @throws CriError INVALID_ARGUMENT when it does not.
 */
export async function checkLogPath(
  sandbox: Pick<PodSandboxConfig, "logDirectory">,
  config: Pick<ContainerConfig, "logPath">,
  podLogsDir: string,
): Promise<void> {
  const path = logPathOf(sandbox, config);
  if (path === "") return;
  if (!isAbsolute(path) || !path.startsWith(`${podLogsDir}/`)) {
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot write the log ${path}: log_directory must lie below --pod-logs-dir (${podLogsDir}).`,
    );
  }
  await refuseWayOut(path, podLogsDir).catch((error) => {
    throw new CriError("INVALID_ARGUMENT", `Cannot write the log ${path}: ${messageOf(error)}.`);
  });
}

/**
 * Makes sure that no symbolic link on the way to a file leads out of `podLogsDir`, which may be one itself.
 * @throws Error that says where it leads to.
 */
export async function refuseWayOut(path: string, podLogsDir: string): Promise<void> {
  const home = await realPathOf(podLogsDir) ?? podLogsDir;
  for (let at = path; at !== podLogsDir && at !== dirname(at); at = dirname(at)) {
    const real = await realPathOf(at);
    if (real === undefined) continue;
    if (real === home || real.startsWith(`${home}/`)) return;
    throw new Error(`${at} is a link to ${real}, out of --pod-logs-dir (${podLogsDir})`);
  }
}

/** Undefined when there is nothing. */
async function realPathOf(path: string): Promise<string | undefined> {
  return await Deno.realPath(path).catch((error) => {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  });
}
