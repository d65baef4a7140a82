import { join } from "@std/path";
import { CriError } from "../../../base/error.ts";
import type { ContainerConfig, PodSandboxConfig } from "../../../cri/api.generated.ts";
import type { OciImageConfig } from "../../../store/records.ts";
import type { NodeFacts } from "../node.ts";
import { capabilitiesOf } from "./capabilities.ts";
import { devicesOf, type NodeDevice } from "./devices.ts";
import { type FoundMount, mountsOf, type PodFiles, rootPropagation } from "./mounts.ts";
import { namespacesOf, type PodNamespaces } from "./namespaces.ts";
import type { OciProcess, OciSpec } from "./oci_spec.ts";
import { clampedOomScore, resourcesOf } from "./resources.ts";
import { defaultProfile, seccompChoice } from "./seccomp.ts";
import { resolveUser, type UserFiles } from "./user.ts";
import type { UserNamespace } from "./user_namespace.ts";

/** The version of the runtime-spec that the bundle is written by. */
const OCI_VERSION = "1.1.0";
const DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/** Where containers' cgroups lie whose pod has no place for them. */
const CGROUP_PARENT = "/multicri";

/** Everything that a container's bundle is made of. */
export interface BundleRequest {
  id: string;
  sandbox: PodSandboxConfig;
  config: ContainerConfig;
  image: OciImageConfig;
  facts: NodeFacts;
  /** The folder of its files. */
  root: string;
  userFiles: UserFiles;
  hostname: string;
  podFiles: PodFiles;
  namespaces: PodNamespaces;
  userNamespace: UserNamespace | undefined;
  /** Of the container that it looks into, if it does. */
  target: string | undefined;
  mounts: readonly FoundMount[];
  devices: readonly NodeDevice[];
  /** The profile that the request names by a file. */
  seccompFile: unknown;
  /** Whether systemd makes the cgroups. */
  systemdCgroups: boolean;
}

/** The bundle's config.json. @throws CriError INVALID_ARGUMENT for what cannot be run. */
export function writeSpec(request: BundleRequest): OciSpec {
  const { config, sandbox, facts, userNamespace } = request;
  const context = config.linux?.securityContext;
  const privileged = context?.privileged === true;
  const process = processOf(request);
  const { devices, rules } = devicesOf(config.devices, request.devices, privileged);
  const choice = seccompChoice(context);
  const seccomp = choice.kind === "default"
    ? defaultProfile(process.capabilities.bounding)
    : choice.kind === "file"
    ? request.seccompFile
    : undefined;
  return {
    ociVersion: OCI_VERSION,
    root: { path: request.root, readonly: context?.readonlyRootfs === true },
    process,
    mounts: mountsOf(context, request.podFiles, request.mounts),
    annotations: {},
    linux: {
      namespaces: [
        ...namespacesOf(context, request.namespaces, request.target),
        ...(facts.hasUnifiedCgroups && !privileged ? [{ type: "cgroup" as const }] : []),
        ...(userNamespace === undefined ? [] : [{ type: "user" as const }]),
      ],
      ...(userNamespace === undefined
        ? {}
        : { uidMappings: [userNamespace.uids], gidMappings: [userNamespace.gids] }),
      cgroupsPath: cgroupsPath(sandbox.linux?.cgroupParent ?? "", request),
      resources: {
        ...resourcesOf(config.linux?.resources, facts.canLimitHugepages),
        devices: rules,
      },
      devices,
      maskedPaths: privileged ? [] : context?.maskedPaths ?? [],
      readonlyPaths: privileged ? [] : context?.readonlyPaths ?? [],
      ...(seccomp === undefined ? {} : { seccomp }),
      rootfsPropagation: rootPropagation(config.mounts),
    },
  };
}

/** Where the container's cgroup lies, in the form that its manager wants. */
export function cgroupsPath(
  parent: string,
  { id, systemdCgroups }: Pick<BundleRequest, "id" | "systemdCgroups">,
): string {
  if (!systemdCgroups) return join(parent === "" ? CGROUP_PARENT : parent, id);
  const slice = parent.split("/").at(-1) ?? "";
  return `${slice.endsWith(".slice") ? slice : "system.slice"}:multicri:${id}`;
}

function processOf(request: BundleRequest): OciProcess {
  const { config, image, facts } = request;
  const context = config.linux?.securityContext;
  const oomScore = config.linux?.resources?.oomScoreAdj ?? 0n;
  return {
    terminal: config.tty,
    user: resolveUser(context, image.user, request.userFiles),
    args: commandOf(config, image),
    env: environmentOf(request),
    cwd: config.workingDir || image.workingDir || "/",
    capabilities: capabilitiesOf(context, facts.capabilities),
    noNewPrivileges: context?.noNewPrivs === true,
    oomScoreAdj: clampedOomScore(oomScore, facts.oomScore, facts.mayLowerOomScore),
    ...apparmorOf(request),
  };
}

/**
 * The program and its arguments, as Kubernetes combines them with the image: `command` replaces ENTRYPOINT and CMD,
 * `args` replaces CMD.
 * @throws CriError INVALID_ARGUMENT when nothing is left to run.
 */
function commandOf(
  { command, args }: Pick<ContainerConfig, "command" | "args">,
  image: Pick<OciImageConfig, "entrypoint" | "cmd">,
): string[] {
  const words = command.length > 0
    ? [...command, ...args]
    : [...image.entrypoint, ...(args.length > 0 ? args : image.cmd)];
  if (words[0] !== undefined && words[0] !== "") return words;
  throw new CriError(
    "INVALID_ARGUMENT",
    "Cannot run the container: the image has no ENTRYPOINT or CMD, so the pod must set a command.",
  );
}

/** The image's variables and above them the pod's, which may be bytes of any kind but are text in JSON. */
function environmentOf({ config, image, hostname }: BundleRequest): string[] {
  const decoder = new TextDecoder();
  const entries = [
    DEFAULT_PATH,
    ...(config.tty ? ["TERM=xterm"] : []),
    `HOSTNAME=${hostname}`,
    ...image.env,
    ...config.envs.map(({ key, value }) => `${key}=${decoder.decode(value)}`),
  ];
  return [...new Map(entries.map((entry) => [entry.split("=", 1)[0], entry])).values()];
}

/** @throws CriError FAILED_PRECONDITION for a profile on a node that knows none. */
function apparmorOf({ config, facts }: BundleRequest): Pick<OciProcess, "apparmorProfile"> {
  const context = config.linux?.securityContext;
  const name = (context?.apparmor?.localhostRef || context?.apparmorProfile || "")
    .replace(/^localhost\//, "");
  const isOwn = ["", "runtime/default", "unconfined"].includes(name);
  if (context?.privileged || isOwn) return {};
  if (facts.hasAppArmor) return { apparmorProfile: name };
  throw new CriError(
    "FAILED_PRECONDITION",
    `Cannot run the container with the AppArmor profile ${
      JSON.stringify(name)
    }: this node's kernel has no AppArmor.`,
  );
}
