import { CriError } from "../../../base/error.ts";
import { shown } from "../../../base/shown.ts";
import {
  type LinuxContainerSecurityContext,
  SecurityProfile_ProfileType,
} from "../../../cri/api.generated.ts";

/** What decides about a container's system calls: nothing, our own profile, or a file of the node. */
export type SeccompChoice =
  | { kind: "unconfined" }
  | { kind: "default" }
  | { kind: "file"; path: string };

/** The machines that Deno runs on, by its names. */
export type Machine = typeof Deno.build.arch;

/**
 * What machines are called by Docker's profiles, and whose system calls their kernels know (seccomp(2)), the machine's
 * own first; the kernel kills programs of those that a profile does not name.
 */
export const MACHINES: Readonly<Record<Machine, { go: string; architectures: string[] }>> = {
  x86_64: {
    go: "amd64",
    architectures: ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
  },
  aarch64: { go: "arm64", architectures: ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"] },
};

/** EPERM and ENOSYS (errno(3)), which are alike on all machines. */
const EPERM = 1;
const ENOSYS = 38;
/** The flags of clone(2) that make namespaces. */
const CLONE_NEW = 0x7e020000;

/** Calls that only the owner of a capability may make, by the capability that opens them. */
const GUARDED: Readonly<Record<string, readonly string[]>> = {
  CAP_SYS_ADMIN: [
    ...["bpf", "fanotify_init", "fsconfig", "fsmount", "fsopen", "fspick", "lookup_dcookie"],
    ...["mount", "mount_setattr", "move_mount", "open_tree", "perf_event_open", "pivot_root"],
    ...["quotactl", "quotactl_fd", "setdomainname", "sethostname", "setns", "swapoff", "swapon"],
    ...["syslog", "umount", "umount2", "unshare"],
  ],
  CAP_SYS_BOOT: ["kexec_file_load", "kexec_load", "reboot"],
  CAP_SYS_MODULE: ["delete_module", "finit_module", "init_module"],
  CAP_SYS_NICE: [
    "get_mempolicy",
    "mbind",
    "move_pages",
    "set_mempolicy",
    "set_mempolicy_home_node",
  ],
  CAP_SYS_PACCT: ["acct"],
  CAP_SYS_PTRACE: ["kcmp", "pidfd_getfd", "process_madvise"],
  CAP_SYS_RAWIO: ["ioperm", "iopl"],
  CAP_SYS_TIME: ["adjtimex", "clock_adjtime", "clock_settime", "settimeofday", "stime"],
  CAP_DAC_READ_SEARCH: ["name_to_handle_at", "open_by_handle_at"],
};

/** Calls that no container may make: of the kernel's keys, of what it has no limits for, or of the distant past. */
const FORBIDDEN = [
  ...["_sysctl", "add_key", "create_module", "get_kernel_syms", "io_uring_enter"],
  ...["io_uring_register", "io_uring_setup", "keyctl", "nfsservctl", "query_module", "request_key"],
  ...["sysfs", "uselib", "userfaultfd", "ustat", "vm86", "vm86old"],
];

/** vsock(7) leads out of a virtual machine, to the services of the one that runs it. */
const AF_VSOCK = 40;
const VSOCK_RULES = [{
  names: ["socket"],
  action: "SCMP_ACT_ERRNO",
  errnoRet: EPERM,
  args: [{ index: 0, value: AF_VSOCK, op: "SCMP_CMP_EQ" }],
}];

/** What of personality(2) is harmless, PER_LINUX32 and UNAME26; all bits together ask for the present one. */
const HARMLESS_PERSONALITY = 0x8 | 0x20000;
const HIGHEST_BIT = 2 ** 31;

/** What a container asks for; a privileged one has no filter. @throws CriError INVALID_ARGUMENT */
export function seccompChoice(
  context:
    | Pick<LinuxContainerSecurityContext, "privileged" | "seccomp" | "seccompProfilePath">
    | undefined,
): SeccompChoice {
  if (context === undefined || context.privileged) return { kind: "unconfined" };
  const { seccomp, seccompProfilePath } = context;
  if (seccomp !== undefined) {
    switch (seccomp.profileType) {
      case SecurityProfile_ProfileType.RuntimeDefault:
        return { kind: "default" };
      case SecurityProfile_ProfileType.Localhost:
        return fileChoice(seccomp.localhostRef);
      case SecurityProfile_ProfileType.Unconfined:
        return { kind: "unconfined" };
      default:
        throw new CriError(
          "INVALID_ARGUMENT",
          `Cannot use a seccomp profile of the type ${seccomp.profileType}: it must be RuntimeDefault, Unconfined or ` +
            "Localhost.",
        );
    }
  }
  // The older field, by its words (api.proto).
  switch (seccompProfilePath) {
    case "":
    case "unconfined":
      return { kind: "unconfined" };
    case "runtime/default":
    case "docker/default":
      return { kind: "default" };
    default:
      return fileChoice(seccompProfilePath.replace(/^localhost\//, ""));
  }
}

function fileChoice(path: string): SeccompChoice {
  if (path.startsWith("/") && !path.includes("\0")) return { kind: "file", path };
  throw new CriError(
    "INVALID_ARGUMENT",
    `Cannot use the seccomp profile ${shown(path)}: it must be the absolute path of a file.`,
  );
}

/**
 * Our own profile for a container with these capabilities: everything but what could reach beyond it.
 * @param machine Whose programs run here; those of its predecessors do as well.
 */
export function defaultProfile(capabilities: readonly string[], machine: Machine): unknown {
  const guarded = Object.entries(GUARDED)
    .filter(([capability]) => !capabilities.includes(capability))
    .flatMap(([, names]) => names);
  const mayMakeNamespaces = capabilities.includes("CAP_SYS_ADMIN");
  return {
    defaultAction: "SCMP_ACT_ALLOW",
    architectures: MACHINES[machine].architectures,
    syscalls: [
      { names: [...FORBIDDEN, ...guarded], action: "SCMP_ACT_ERRNO", errnoRet: EPERM },
      ...(mayMakeNamespaces ? [] : namespaceRules()),
      ...VSOCK_RULES,
      ...personalityRules(),
    ],
  };
}

/**
 * clone(2) is needed for threads, so only with flags that make namespaces it is refused; those of clone3(2) cannot be
 * looked at, and libraries fall back to clone(2) when the kernel does not know it.
 */
function namespaceRules(): unknown[] {
  const flags = [...Array(32).keys()].map((bit) => 2 ** bit).filter((flag) => CLONE_NEW & flag);
  return [
    ...flags.map((flag) => ({
      names: ["clone"],
      action: "SCMP_ACT_ERRNO",
      errnoRet: EPERM,
      args: [{ index: 0, value: flag, valueTwo: flag, op: "SCMP_CMP_MASKED_EQ" }],
    })),
    { names: ["clone3"], action: "SCMP_ACT_ERRNO", errnoRet: ENOSYS },
  ];
}

/**
 * Of personality(2) all is refused but what is harmless and the question for the present one. A rule can compare an
 * argument but once, and one rule that fits is enough: without the highest bit any other that is not harmless is one
 * too many, with it any that is missing.
 */
function personalityRules(): unknown[] {
  const rule = (mask: number, value: number) => ({
    names: ["personality"],
    action: "SCMP_ACT_ERRNO",
    errnoRet: EPERM,
    args: [{ index: 0, value: mask, valueTwo: value, op: "SCMP_CMP_MASKED_EQ" }],
  });
  const bits = [...Array(31).keys()].map((bit) => 2 ** bit);
  return [
    ...bits.filter((bit) => (bit & HARMLESS_PERSONALITY) === 0)
      .map((bit) => rule(HIGHEST_BIT + bit, bit)),
    ...bits.map((bit) => rule(HIGHEST_BIT + bit, HIGHEST_BIT)),
  ];
}
