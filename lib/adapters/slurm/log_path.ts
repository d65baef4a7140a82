import { isAbsolute, join } from "@std/path";
import { CriError } from "../../base/error.ts";
import type { ContainerConfig, PodSandboxConfig } from "../../cri/api.generated.ts";

/**
 * Checks that a container's log lies where the administrator lets the server write.
 * @throws CriError INVALID_ARGUMENT when it does not.
 */
export function checkLogPath(
  sandbox: PodSandboxConfig,
  config: ContainerConfig,
  podLogsDir: string,
): void {
  if (config.logPath === "" || sandbox.logDirectory === "") return;
  const path = join(sandbox.logDirectory, config.logPath);
  if (isAbsolute(path) && path.startsWith(`${podLogsDir}/`)) return;
  throw new CriError(
    "INVALID_ARGUMENT",
    `Cannot write the log ${path}: log_directory must lie below --pod-logs-dir (${podLogsDir}).`,
  );
}
