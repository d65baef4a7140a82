import { CriError } from "../../base/error.ts";
import { shown } from "../../base/shown.ts";

/** Names with dots, as in sysctl(8); nothing else may become a path. */
const NAME = /^[a-z0-9_-]+(\.[a-zA-Z0-9_-]+)+$/;
/** The kernel takes a page at once. */
const MAX_VALUE_CHARACTERS = 4095;
/** Kernel settings that each IPC namespace has of its own (ipc_namespaces(7)). */
const OF_IPC = [/^kernel\.(msg(max|mnb|mni)|sem|shm(all|max|mni|_rmid_forced))$/, /^fs\.mqueue\./];

/**
 * Checks that a pod's kernel settings are its own: every other one would be the whole node's.
 * @throws CriError INVALID_ARGUMENT naming the first that is not.
 */
export function checkSysctls(
  sysctls: Readonly<Record<string, string>>,
  own: { ipc: boolean; network: boolean },
): void {
  for (const [name, value] of Object.entries(sysctls)) {
    const isIpc = OF_IPC.some((pattern) => pattern.test(name));
    const isNetwork = name.startsWith("net.");
    const why = !NAME.test(name) || (!isIpc && !isNetwork)
      ? "it must be one that a pod can have of its own, of net., fs.mqueue. or System V IPC"
      : /\p{Cc}/u.test(value.replaceAll("\t", " ")) || value.length > MAX_VALUE_CHARACTERS
      ? `its value must be one line of ${MAX_VALUE_CHARACTERS} characters at most`
      : isIpc && !own.ipc
      ? "the pod shares the node's IPC namespace"
      : isNetwork && !own.network
      ? "the pod shares the node's network"
      : undefined;
    if (why === undefined) continue;
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot set the kernel's ${shown(name)} for the pod: ${why}.`,
    );
  }
}

/**
 * Why the kernel does not have or take one of a pod's settings.
 * @param refused `NAME unknown` or `NAME refused`, and a line break.
 */
export function refusedSysctl(
  refused: string,
  sysctls: Readonly<Record<string, string>>,
): CriError {
  const [name = "", why] = refused.trim().split(" ");
  const value = JSON.stringify(sysctls[name] ?? "");
  return new CriError(
    "INVALID_ARGUMENT",
    why === "unknown"
      ? `Cannot set the kernel's "${name}" for the pod: this node's kernel has no such setting.`
      : `Cannot set the kernel's "${name}" for the pod to ${value}: the kernel does not take that value.`,
  );
}
