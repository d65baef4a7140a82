import { CriError } from "../../base/error.ts";
import {
  type ContainerConfig,
  NamespaceMode,
  type PodSandboxConfig,
  type SecurityProfile,
  SecurityProfile_ProfileType,
} from "../../cri/api.generated.ts";

/**
 * What a Slurm job makes of the settings that decide what a container may do. A job runs as the cluster's user,
 * without any privilege, so:
 *
 * - what only takes rights away is *honoured* by that alone: dropped capabilities, no_new_privs, a read-only
 *   root;
 * - what chooses among rights the job does not have, or narrows what it has only a little more, is *left out*, and
 *   said once in the container's log: users and groups, SELinux, shared processes, host ports;
 *   masked and read-only paths and the default profiles, which the kubelet sends with every container, without a
 *   word (the seccomp profile that Apptainer 1.4 brings knows no clone3(2): under it glibc can start no thread, and
 *   a third of the containers do not even start);
 * - what the program could not work without is *refused*: privileges, added capabilities, devices, sysctls, the
 *   node's namespaces, another container's processes, profiles that lie on the node.
 */
interface Rule<What> {
  what: What;
  applies: (config: ContainerConfig, sandbox: PodSandboxConfig) => boolean;
}

const REFUSED: readonly Rule<string | ((config: ContainerConfig) => string)>[] = [
  {
    what: "securityContext.privileged",
    applies: (config) => config.linux?.securityContext?.privileged === true,
  },
  {
    what: "securityContext.capabilities.add",
    applies: ({ linux }) => {
      const added = linux?.securityContext?.capabilities;
      return (added?.addCapabilities.length ?? 0) + (added?.addAmbientCapabilities.length ?? 0) > 0;
    },
  },
  {
    what: ({ devices, CDIDevices }) => {
      const paths = devices.map(({ containerPath, hostPath }) => containerPath || hostPath);
      const names = [...paths, ...CDIDevices.map(({ name }) => name)];
      return `devices (${names.map((name) => JSON.stringify(name)).join(", ")})`;
    },
    applies: (config) => config.devices.length > 0 || config.CDIDevices.length > 0,
  },
  {
    what: "securityContext.sysctls",
    applies: (_config, { linux }) => Object.keys(linux?.sysctls ?? {}).length > 0,
  },
  {
    // api.proto: "run_as_group should only be specified when run_as_user (run_as_username) is".
    what: "runAsGroup without runAsUser",
    applies: ({ linux }) => {
      const context = linux?.securityContext;
      return context?.runAsGroup !== undefined && context.runAsUser === undefined &&
        context.runAsUsername === "";
    },
  },
  { what: "hostPID", applies: (config) => namespaces(config)?.pid === NamespaceMode.NODE },
  { what: "hostIPC", applies: (config) => namespaces(config)?.ipc === NamespaceMode.NODE },
  {
    what: "a target container",
    applies: (config) => namespaces(config)?.pid === NamespaceMode.TARGET,
  },
  {
    what: "a seccomp profile of the node",
    applies: ({ linux }) => isLocal(linux?.securityContext?.seccomp),
  },
  {
    what: "an AppArmor profile of the node",
    applies: ({ linux }) => isLocal(linux?.securityContext?.apparmor),
  },
];

const LEFT_OUT: readonly Rule<string>[] = [
  {
    what: "runAsUser and runAsGroup: the job runs as the cluster's user",
    applies: ({ linux }) => {
      const context = linux?.securityContext;
      return context?.runAsUser !== undefined || context?.runAsGroup !== undefined ||
        (context?.runAsUsername ?? "") !== "";
    },
  },
  {
    what: "supplementalGroups and fsGroup: the job has the groups of the cluster's user",
    applies: ({ linux }) => (linux?.securityContext?.supplementalGroups.length ?? 0) > 0,
  },
  {
    what: "seLinuxOptions",
    applies: ({ linux }) => linux?.securityContext?.selinuxOptions !== undefined,
  },
  {
    what: "shareProcessNamespace: each container is a job of its own and sees its own processes",
    applies: (config) => namespaces(config)?.pid === NamespaceMode.POD,
  },
  {
    what: "hostPort: the job's ports are those of its compute node",
    applies: (_config, sandbox) => sandbox.portMappings.some(({ hostPort }) => hostPort > 0),
  },
];

/** @throws CriError INVALID_ARGUMENT naming everything that the container asks for and cannot have. */
export function refuseUnavailable(config: ContainerConfig, sandbox: PodSandboxConfig): void {
  const asked = REFUSED.filter((rule) => rule.applies(config, sandbox)).map(({ what }) =>
    typeof what === "string" ? what : what(config)
  );
  if (asked.length === 0) return;
  throw new CriError(
    "INVALID_ARGUMENT",
    `Cannot run the container ${config.metadata?.name} as a Slurm job with ${
      asked.join(", ")
    }: a job has ` +
      "no more rights than the cluster's user; leave that out.",
  );
}

/** Lines about what the container asks for and does without. */
export function leftOut(config: ContainerConfig, sandbox: PodSandboxConfig): string[] {
  return LEFT_OUT.filter((rule) => rule.applies(config, sandbox))
    .map((rule) => `left out: ${rule.what}`);
}

function namespaces(config: ContainerConfig) {
  return config.linux?.securityContext?.namespaceOptions;
}

function isLocal(profile: SecurityProfile | undefined): boolean {
  return profile?.profileType === SecurityProfile_ProfileType.Localhost;
}
