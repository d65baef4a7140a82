import type { LinuxContainerSecurityContext } from "../../../cri/api.generated.ts";
import type { OciCapabilities } from "./oci_spec.ts";

/** Their names by their numbers (linux/capability.h). */
const NAMES = [
  ...["CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID"],
  ...["SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW"],
  ...["IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT"],
  ...["SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD"],
  ...["LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG"],
  ...["WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE"],
].map((name) => `CAP_${name}`);

/** What a container has that says nothing, as with other runtimes. */
const DEFAULTS = [
  ...["CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID"],
  ...["SETFCAP", "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE"],
].map((name) => `CAP_${name}`);

/** The names in a set as /proc/PID/status writes it, in hexadecimal digits. */
export function namesOfSet(hexadecimal: string): string[] {
  const set = BigInt(`0x${hexadecimal}`);
  return NAMES.filter((_, index) => (set >> BigInt(index) & 1n) === 1n);
}

/**
 * What the container may do: everything that the node can give if privileged, else the usual ones, changed as the pod
 * asks. What this process does not have itself it cannot give; that is left out, as the machine is meant to be, and so
 * are names that this kernel does not know: nobody has those here.
 */
export function capabilitiesOf(
  context: LinuxContainerSecurityContext | undefined,
  available: readonly string[],
): OciCapabilities {
  const asked = context?.capabilities;
  const added = (asked?.addCapabilities ?? []).map(fullName);
  const dropped = (asked?.dropCapabilities ?? []).map(fullName);
  const ambient = (asked?.addAmbientCapabilities ?? []).map(fullName);
  const all = context?.privileged === true || added.includes("CAP_ALL");
  const start = all ? available : dropped.includes("CAP_ALL") ? [] : DEFAULTS;
  const names = [...new Set([...start, ...added, ...ambient])].filter((name) =>
    available.includes(name) &&
    (context?.privileged === true || added.includes(name) || !dropped.includes(name))
  );
  const raised = ambient.filter((name) => names.includes(name));
  return {
    bounding: names,
    effective: names,
    permitted: names,
    inheritable: raised,
    ambient: raised,
  };
}

function fullName(asked: string): string {
  const upper = asked.toUpperCase();
  return upper.startsWith("CAP_") ? upper : `CAP_${upper}`;
}
