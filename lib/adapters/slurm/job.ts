import { CriError } from "../../base/error.ts";
import {
  type ContainerConfig,
  NamespaceMode,
  type PodSandboxConfig,
} from "../../cri/api.generated.ts";
import type { ImageRecord, OciImageConfig } from "../../store/records.ts";
import { joinCommand, renderEnvironment, renderJobScript } from "../../../wasm/core.ts";
import { countingResources, resourceOptions } from "./resources.ts";
import type { ContainerSettings, Variable } from "./settings.ts";
import { hasStdio, stdioProgram } from "./job_stdio.ts";
import { type Allocation, allocationOf, sharesAllocation } from "./allocation.ts";
import type { ArchiveEntry } from "./archive.ts";
import { bindArguments } from "./binds.ts";
import { COPIES, type MadeDirectory, PREPARATION_FILE, type Staging } from "./staging.ts";
import { ALLOCATION_ANNOTATION } from "./job_options.ts";
import { TERMINATION_FILE, terminationMount, withTermination } from "./termination.ts";

/** Where the program finds the directory whose files outlive the container. */
const RESULTS_PATH = "/.multicri/results";
const RESULTS_VARIABLE = "MULTICRI_RESULTS_DIR";

/**
 * Instead of --containall: ranks on one node reach each other through /dev/shm, /tmp and each other's memory, and other
 * nodes by devices. What they do not get is the environment, and the host's files that a runtime would show.
 */
const RANK_ARGUMENTS = ["--cleanenv", "--no-mount", "home,cwd,hostfs,bind-paths"];

/** The job of one container, as files of its directory on the cluster. */
export interface JobFiles {
  name: string;
  /** Names of the sbatch options that the job sets. */
  optionNames: readonly string[];
  /** Names of the variables that env(1) sets in the container, so that their values stand in its arguments. */
  viaArgv: readonly string[];
  directory: string;
  /** The files, and what its volumes hold. */
  entries: readonly ArchiveEntry[];
  /** What must be there beside the directory. */
  made: readonly MadeDirectory[];
  /** The pod's job, for a container that has none of its own. */
  allocation?: Allocation | undefined;
}

export interface JobRequest {
  containerId: string;
  sandboxId: string;
  sandbox: PodSandboxConfig;
  config: ContainerConfig;
  image: Pick<ImageRecord, "config" | "hasShell">;
  settings: ContainerSettings;
  /** Whether Kubernetes resources count where the settings say nothing. */
  mapResources: boolean;
  /** Whether `&&` and `||` that stand alone in the pod's words join commands. */
  joinCommands: boolean;
  /** How often the job tells what it uses, in whole seconds; 0: never. */
  usageSeconds: number;
  /** Absolute paths on the cluster. */
  directory: string;
  imagePath: string;
  /** Where results go: a directory of the cluster, or where the program sees one in its volume. */
  results: { directory: string } | { inVolume: string };
  staging: Staging;
}

/** The name by which a container's job is found again in Slurm, also when its id was never learnt. */
export function jobName(containerId: string): string {
  return `multicri-${containerId}`;
}

/** Where the program begins in the container. */
export function workingDirectory(
  config: Pick<ContainerConfig, "workingDir">,
  image: Pick<OciImageConfig, "workingDir">,
): string {
  return config.workingDir || image.workingDir || "/";
}

/** Renders everything that is submitted. @throws CriError INVALID_ARGUMENT for what cannot be passed on. */
export function renderJob(request: JobRequest): JobFiles {
  const { config, settings, directory, staging } = request;
  const { mpi } = settings;
  const image = request.image.config;
  const results = "inVolume" in request.results ? { path: request.results.inVolume, binds: [] } : {
    path: RESULTS_PATH,
    binds: [{
      source: request.results.directory,
      destination: RESULTS_PATH,
      readonly: false,
    }],
  };
  const environment = renderEnvironment([
    ...imageVariables(image),
    ...settings.program,
    { name: RESULTS_VARIABLE, value: results.path },
  ]);
  const name = jobName(request.containerId);
  const program = programArgv(config, image, request);
  const termination = terminationMount(config);
  const { runtimeArguments, argv } = termination === undefined
    ? { runtimeArguments: [], argv: program }
    : withTermination(termination.containerPath, directory, program, request.image.hasShell);
  const shared = sharesAllocation(request.sandbox, settings.options);
  if (shared && mpi !== undefined) {
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot run MPI (MPI_VERSION) in a pod with the annotation ${ALLOCATION_ANNOTATION}: a launcher would find ` +
        "one task there, so its ranks must have a job of their own; leave out one of both.",
    );
  }
  const options = [
    // A second run of one container is Kubernetes' decision, not Slurm's.
    { name: "no-requeue" },
    ...(mpi?.ranks === undefined || saysTasks(settings.options)
      ? []
      : [{ name: "ntasks", value: mpi.ranks }]),
    ...resourceOptions(
      shared ? request.sandbox.linux?.resources : config.linux?.resources,
      countingResources(request.mapResources, settings.options),
    ),
    ...settings.options,
  ];
  const script = renderJobScript({
    jobName: name,
    comment: jobComment(request),
    directory,
    options,
    environment: settings.submitEnvironment,
    hasPrerun: settings.prerun !== "",
    usageSeconds: request.usageSeconds,
    runtimeArguments: [
      // The environment as it is, not evaluated by a shell; nothing of the host but what is bound here.
      "--no-eval",
      ...(mpi === undefined ? ["--containall"] : RANK_ARGUMENTS),
      "--pwd",
      workingDirectory(config, image),
      ...[...results.binds, ...staging.binds].flatMap(bindArguments),
      // Ranks are on many hosts, and some libraries tell by the name which are on the same one.
      ...(mpi === undefined ? hostnameArguments(request.sandbox) : []),
      ...runtimeArguments,
    ],
    image: request.imagePath,
    argv,
    launcher: mpi?.launcher ?? [],
    module: mpi?.module ?? "",
  });
  return {
    name,
    optionNames: options.map(({ name }) => name),
    viaArgv: environment.viaArgv,
    directory,
    entries: [
      ...privateFiles({
        "job.sh": script,
        env: environment.file,
        ...(termination === undefined ? {} : { [TERMINATION_FILE]: "" }),
        ...(settings.prerun === "" ? {} : { "prerun.sh": settings.prerun }),
        ...(hasStdio(config) ? { "stdio.pl": stdioProgram(config) } : {}),
        ...(staging.preparation === "" ? {} : { [PREPARATION_FILE]: staging.preparation }),
      }),
      ...(staging.entries.length === 0 ? [] : [COPIES_DIRECTORY]),
      ...staging.entries,
    ],
    made: staging.made,
    ...(shared ? { allocation: allocationOf({ ...request, options }) } : {}),
  };
}

/** Nobody else enters it, whatever the modes of the copies in it. */
const COPIES_DIRECTORY: ArchiveEntry = { kind: "directory", name: COPIES, mode: 0o700 };

/** Whether the settings say how many tasks there are. */
function saysTasks(options: ContainerSettings["options"]): boolean {
  return options.some(({ name }) => ["ntasks", "ntasks-per-node"].includes(name));
}

function privateFiles(files: Record<string, string>): ArchiveEntry[] {
  return Object.entries(files).map(([name, content]) => ({
    kind: "file",
    name,
    mode: 0o600,
    content,
  }));
}

/**
 * The program and its arguments, as Kubernetes combines them with the image: `command` replaces
 * ENTRYPOINT and CMD, `args` replaces CMD.
 * @throws CriError INVALID_ARGUMENT when nothing is left to run.
 */
export function programArgv(
  config: Pick<ContainerConfig, "command" | "args">,
  image: Pick<OciImageConfig, "entrypoint" | "cmd">,
  { joinCommands }: Pick<JobRequest, "joinCommands">,
): string[] {
  // Only the pod's own words may hold the seed's `&&`; the image's are taken as they are.
  const words = config.command.length > 0
    ? joinCommand([...config.command, ...config.args], { joinTokens: joinCommands })
    : config.args.length > 0
    ? [
      ...image.entrypoint,
      ...joinCommand(config.args, {
        joinTokens: joinCommands && image.entrypoint.length === 0,
      }),
    ]
    : [...image.entrypoint, ...image.cmd];
  if (words.length === 0 || words[0] === "") {
    throw new CriError(
      "INVALID_ARGUMENT",
      "Cannot run the container: the image has no ENTRYPOINT or CMD, so the pod must set a command.",
    );
  }
  return words;
}

function imageVariables(image: OciImageConfig): Variable[] {
  return image.env.filter((entry) => entry.includes("=")).map((entry) => {
    const at = entry.indexOf("=");
    return { name: entry.slice(0, at), value: entry.slice(at + 1) };
  });
}

/** The pod's own name, as on any node; with the node's network it is the compute node's. */
function hostnameArguments({ hostname, linux }: PodSandboxConfig): string[] {
  const network = linux?.securityContext?.namespaceOptions?.network;
  // The kubelet sends names of at most 63 characters; the runtime takes what uname(2) holds.
  if (hostname === "" || network === NamespaceMode.NODE || !/^[\w.-]{1,64}$/.test(hostname)) {
    return [];
  }
  return ["--hostname", hostname];
}

/** What an administrator reads in `squeue -o %k`, and what a lost job is recognised by. */
function jobComment({ containerId, sandbox, config }: JobRequest): string {
  const pod = sandbox.metadata;
  return `multicri id=${containerId} pod=${pod?.namespace}/${pod?.name} uid=${pod?.uid} ` +
    `container=${config.metadata?.name} attempt=${config.metadata?.attempt}`;
}
