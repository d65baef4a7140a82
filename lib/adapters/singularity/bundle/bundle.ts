import { join } from "@std/path";
import { CriError } from "../../../base/error.ts";
import { shown } from "../../../base/shown.ts";
import type { ContainerConfig, PodSandboxConfig } from "../../../cri/api.generated.ts";
import type { OciImageConfig } from "../../../store/records.ts";
import { whyNoWord } from "../../steps/frames.ts";
import type { NodeFacts } from "../node.ts";
import { apparmorOf, checkAccessControl } from "./access_control.ts";
import { capabilitiesOf } from "./capabilities.ts";
import { devicesOf, type NodeDevice } from "./devices.ts";
import type { FoundMount } from "./asked_mount.ts";
import { mountsOf, type PodFiles, rootPropagation } from "./mounts.ts";
import { checkNamespaceModes, namespacesOf, type PodNamespaces } from "./namespaces.ts";
import type { OciProcess, OciSpec } from "./oci_spec.ts";
import { checkPath, checkPathWithin } from "./paths.ts";
import { oomScoreOf, resourcesOf } from "./resources.ts";
import { defaultProfile, seccompChoice } from "./seccomp.ts";
import { parseProfile } from "./seccomp_file.ts";
import { resolveUser, type UserFiles } from "./user.ts";
import type { UserNamespace } from "./user_namespace.ts";

/** The version of the runtime-spec that the bundle is written by. */
const OCI_VERSION = "1.1.0";
/** Of arguments and variables: a quarter of the usual limit of a stack is for them and their addresses (execve(2)). */
const MAX_WORDS_BYTES = 2 * 1024 * 1024 - 128 * 1024;
const DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/**
 * What a program may open that has not raised its limit: as systemd has it, and so other runtimes. Deno raises its own
 * to the most, which a container would have from it; programs that go through all descriptors, or make tables for them,
 * then take long, and select(2) knows no more than these.
 */
const OPEN_FILES = 1024;
/** Where containers' cgroups lie whose pod has no place for them. */
export const CGROUP_PARENT = "/multicri";

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
  /** The text of the profile that the request names by a file. */
  seccompFile: string | undefined;
  /** Whether systemd makes the cgroups. */
  systemdCgroups: boolean;
}

/** The bundle's config.json. @throws CriError INVALID_ARGUMENT for what cannot be run. */
export function writeSpec(request: BundleRequest): OciSpec {
  const { config, sandbox, facts, userNamespace } = request;
  const context = config.linux?.securityContext;
  const privileged = context?.privileged === true;
  checkAccessControl(context, sandbox.linux?.securityContext, facts);
  checkNamespaceModes(context?.namespaceOptions);
  const maskedPaths = privileged ? [] : pathsOf("masked path", context?.maskedPaths);
  const readonlyPaths = privileged ? [] : pathsOf("read-only path", context?.readonlyPaths);
  const process = processOf(request);
  const { devices, rules } = devicesOf(config.devices, request.devices, privileged);
  const seccomp = seccompOf(request, process.capabilities.bounding);
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
        ...resourcesOf(config.linux?.resources, facts),
        devices: rules,
      },
      devices,
      maskedPaths,
      readonlyPaths,
      ...(seccomp === undefined ? {} : { seccomp }),
      rootfsPropagation: rootPropagation(config.mounts),
    },
  };
}

/** Without empty ones, as other runtimes take them. @throws CriError INVALID_ARGUMENT for what is no path there. */
function pathsOf(what: string, paths: readonly string[] = []): string[] {
  const given = paths.filter((path) => path !== "");
  for (const path of given) checkPathWithin(what, path);
  return given;
}

/** The filter of the container's system calls, if it has one. */
function seccompOf(
  { config, facts, seccompFile }: BundleRequest,
  capabilities: readonly string[],
): unknown {
  const choice = seccompChoice(config.linux?.securityContext);
  switch (choice.kind) {
    case "unconfined":
      return undefined;
    case "default":
      return defaultProfile(capabilities, facts.machine);
    case "file":
      return parseProfile(choice.path, seccompFile ?? "", { ...facts, capabilities });
  }
}

/** Where the container's cgroup lies, in the form that its manager wants. */
export function cgroupsPath(
  parent: string,
  { id, systemdCgroups }: Pick<BundleRequest, "id" | "systemdCgroups">,
): string {
  if (!systemdCgroups) return join("/", parent === "" ? CGROUP_PARENT : parent, id);
  const slice = parent.split("/").at(-1) ?? "";
  return `${slice.endsWith(".slice") ? slice : "system.slice"}:multicri:${id}`;
}

function processOf(request: BundleRequest): OciProcess {
  const { config, image, facts } = request;
  const context = config.linux?.securityContext;
  const cwd = config.workingDir || image.workingDir || "/";
  checkPath("working directory", cwd);
  const args = commandOf(config, image);
  const env = environmentOf(request);
  checkRoom([...args, ...env]);
  return {
    terminal: config.tty,
    user: resolveUser(context, image.user, request.userFiles),
    args,
    env,
    cwd,
    capabilities: capabilitiesOf(context, facts.capabilities),
    noNewPrivileges: context?.noNewPrivs === true,
    oomScoreAdj: oomScoreOf(config.linux?.resources, facts),
    rlimits: [{
      type: "RLIMIT_NOFILE",
      soft: Math.min(OPEN_FILES, facts.mostOpenFiles),
      hard: facts.mostOpenFiles,
    }],
    ...apparmorOf(context, facts),
  };
}

/**
 * The program and its arguments, as Kubernetes combines them with the image: `command` replaces ENTRYPOINT and CMD,
 * `args` replaces CMD.
 * @throws CriError INVALID_ARGUMENT when nothing is left to run, or the kernel could not pass it.
 */
function commandOf(
  { command, args }: Pick<ContainerConfig, "command" | "args">,
  image: Pick<OciImageConfig, "entrypoint" | "cmd">,
): string[] {
  const words = command.length > 0
    ? [...command, ...args]
    : [...image.entrypoint, ...(args.length > 0 ? args : image.cmd)];
  checkWords("argument", words);
  if (words[0] !== undefined && words[0] !== "") return words;
  throw new CriError(
    "INVALID_ARGUMENT",
    "Cannot run the container: " +
      (words.length > 0
        ? "the first word of its command names the program, and must not be empty."
        : "the image has no ENTRYPOINT or CMD, so the pod must set a command."),
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
  if (config.envs.some(({ key }) => key === "")) {
    throw new CriError(
      "INVALID_ARGUMENT",
      "Cannot run the container with a variable that has no name.",
    );
  }
  // Never the value, which may be a secret.
  checkWords("variable", entries, (entry) => entry.split("=", 1)[0] ?? "");
  return [...new Map(entries.map((entry) => [entry.split("=", 1)[0], entry])).values()];
}

/**
 * @param nameOf What of a word may be shown.
 * @throws CriError INVALID_ARGUMENT for a word that the kernel could not pass.
 */
function checkWords(
  kind: string,
  words: readonly string[],
  nameOf = (word: string) => word.split("\0", 1)[0] ?? "",
): void {
  for (const word of words) {
    const why = whyNoWord(word);
    if (why === undefined) continue;
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot run the container: its ${kind} ${shown(nameOf(word))} ${why}.`,
    );
  }
}

/** @throws CriError INVALID_ARGUMENT for more words than the kernel passes to a program. */
function checkRoom(words: readonly string[]): void {
  const bytes = words.reduce((sum, word) => sum + new TextEncoder().encode(word).length + 1, 0);
  if (bytes <= MAX_WORDS_BYTES) return;
  throw new CriError(
    "INVALID_ARGUMENT",
    `Cannot run the container: its arguments and variables have ${bytes} bytes together, and may have ` +
      `${MAX_WORDS_BYTES} at most.`,
  );
}
