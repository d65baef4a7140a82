import { dirname, isAbsolute, join } from "@std/path";
import { CriError, messageOf } from "../base/error.ts";
import { shown } from "../base/shown.ts";
import type { ContainerConfig, PodSandboxConfig } from "../cri/api.generated.ts";

/** As other runtimes make them. */
const FOLDER_MODE = 0o755;

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
      `Cannot write the log ${
        shown(path)
      }: log_directory must lie below --pod-logs-dir (${podLogsDir}).`,
    );
  }
  await refuseWayOut(path, podLogsDir).catch((error) => {
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot write the log ${shown(path)}: ${messageOf(error)}.`,
    );
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
    if (real === undefined) {
      if (await isThere(at)) throw new Error(`${at} is a link to nothing`);
      continue;
    }
    if (real === home || real.startsWith(`${home}/`)) return;
    throw new Error(`${at} is a link to ${real}, out of --pod-logs-dir (${podLogsDir})`);
  }
}

/**
 * Makes the folders that are missing on the way from `podLogsDir` to a file, open to whoever collects logs, whatever
 * the umask: what the logs hold is protected by their own modes.
 */
export async function makeFoldersOf(path: string, podLogsDir: string | undefined): Promise<void> {
  const folder = dirname(path);
  // What is above it may not be looked at.
  if (folder === podLogsDir) return await Deno.mkdir(folder, { recursive: true });
  if (await isThere(folder)) return;
  await makeFoldersOf(folder, podLogsDir);
  await Deno.mkdir(folder).then(
    () => Deno.chmod(folder, FOLDER_MODE),
    (error) => {
      if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
    },
  );
}

/** Undefined when there is nothing. */
async function realPathOf(path: string): Promise<string | undefined> {
  return await unlessNothing(Deno.realPath(path));
}

async function isThere(path: string): Promise<boolean> {
  return await unlessNothing(Deno.lstat(path)) !== undefined;
}

async function unlessNothing<T>(asked: Promise<T>): Promise<T | undefined> {
  return await asked.catch((error) => {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  });
}
