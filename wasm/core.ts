/**
 * The typed face of the core in `core.wasm` (Rust, `src/`): image names, shell quoting, the environment file
 * and the job script of a Slurm job, Slurm's states. Everything here is synchronous and pure.
 *
 * What is refused throws a CriError INVALID_ARGUMENT with a sentence that never holds a variable's value.
 */
import { CriError } from "../lib/base/error.ts";
import { Operation, perform } from "./call.ts";
import { FrameWriter } from "./frame.ts";

/** An environment variable. */
export interface Variable {
  name: string;
  value: string;
}

/** An option of sbatch by its long name without dashes; without `value` for one that takes none. */
export interface SlurmOption {
  name: string;
  value?: string;
}

interface ImageBase {
  /** Whether `multicri/` (or `docker.io/multicri/`, `index.docker.io/multicri/`) stood in front. */
  prefixed: boolean;
  /** The same for two names only when they mean the same image. */
  canonical: string;
  /** The image as the tool that fetches it is told: `docker://docker.io/library/perl:latest`. */
  url: string;
}

/** An image of a container registry (`docker`), or a SIF stored in one (`oras`). */
export interface RegistryImage extends ImageBase {
  kind: "docker" | "oras";
  /** The host with its port: `docker.io`, `registry.lab:5000`, `[::1]:5000`. */
  registry: string;
  repository: string;
  /** As given; `latest` where neither tag nor digest was given. */
  tag?: string;
  /** `sha256:…`. With one, it alone is pulled: `canonical` and `url` leave a tag out. */
  digest?: string;
  /** As people write it: `perl:latest`. */
  familiar: string;
  /** Spelt out, tag and digest both: `docker.io/library/perl:latest`. */
  full: string;
}

/** An image of Singularity Hub. The hub has been read-only since 2021. */
export interface HubImage extends ImageBase {
  kind: "shub";
  repository: string;
  /** Absent for `latest`. */
  tag?: string;
  /** 32 or 40 hexadecimal digits. */
  digest?: string;
}

/** An image of a Sylabs library, the default one without `registry`. */
export interface LibraryImage extends ImageBase {
  kind: "library";
  registry?: string;
  repository: string;
  tag: string;
}

/** A SIF on a web server; with `digest`, which is the file's own, its content has to match. */
export interface WebImage extends ImageBase {
  kind: "https";
  digest?: string;
}

/** A SIF, or a definition file to build one from, in the container's `multicri` volume. */
export interface VolumeImage extends ImageBase {
  kind: "local-image" | "local-def-file";
  /** Relative to the volume, without empty, `.` and `..` parts. */
  path: string;
}

export type ImageSource = RegistryImage | HubImage | LibraryImage | WebImage | VolumeImage;

/**
 * Reads an image name as a pod has it: with or without `multicri/`, with one of our prefixes or plain. The
 * grammar is told in `src/image_name.rs` and, for names of registries, `src/reference.rs`.
 *
 * An image id (`sha256:` and 64 digits, or the digits alone) is no name: look ids up before.
 *
 * Throws INVALID_ARGUMENT naming what is wrong, the character's position (from 1) and, for an unknown prefix
 * under `multicri/`, the nearest known one.
 */
export function parseImageName(name: string): ImageSource {
  const answer = perform(Operation.parseImageName, new FrameWriter().string(name));
  const kind = IMAGE_KINDS[answer.number()];
  const common = { prefixed: answer.flag(), canonical: answer.string(), url: answer.string() };
  const [registry, repository = "", tag, digest, familiar = "", full = "", path = ""] = Array.from(
    { length: 7 },
    () => answer.optional(),
  );
  const optional = {
    ...(registry !== undefined && { registry }),
    ...(tag !== undefined && { tag }),
    ...(digest !== undefined && { digest }),
  };
  switch (kind) {
    case "docker":
    case "oras":
      return { kind, ...common, ...optional, registry: registry ?? "", repository, familiar, full };
    case "shub":
      return { kind, ...common, ...optional, repository };
    case "library":
      return { kind, ...common, ...optional, repository, tag: tag ?? "" };
    case "https":
      return { kind, ...common, ...optional };
    case "local-image":
    case "local-def-file":
      return { kind, ...common, path };
    default:
      throw new CriError("INTERNAL", `The core answered with an unknown kind of image: ${kind}`);
  }
}

/** `word` in single quotes for any POSIX shell. Throws INVALID_ARGUMENT for NUL. */
export function quoteShell(word: string): string {
  return perform(Operation.quoteShell, new FrameWriter().string(word)).string();
}

/**
 * The file `env` beside a job script, for these variables; of several with one name the last counts.
 *
 * A variable X is handed to Apptainer as APPTAINERENV_X, which is exact with `--no-eval` (Apptainer 1.1,
 * SingularityCE 3.10 or newer). Those that cannot go that way (names that are no shell identifiers, HOME and
 * some more, values with "\r\n") are named in `viaArgv`: the job script sets them by the program `env`,
 * which the image must have. LD_LIBRARY_PATH gets Apptainer's `:/.singularity.d/libs` appended, where
 * the libraries of `--nv` lie. The file holds the values: 0600.
 *
 * Throws INVALID_ARGUMENT for NUL, an empty name, "=" in a name, a variable that does not fit into 128 KiB, or
 * more than Apptainer takes for one container (960 KiB as JSON).
 */
export function renderEnvironment(
  variables: readonly Variable[],
): { file: string; viaArgv: string[] } {
  const request = new FrameWriter();
  request.list(variables, ({ name, value }) => request.string(name).string(value));
  const answer = perform(Operation.renderEnvironment, request);
  return { file: answer.string(), viaArgv: answer.list(() => answer.string()) };
}

/**
 * The seed's way to run two commands in one container: a word that is exactly `&&` or `||` joins what stands
 * before and behind it, every other word is quoted: `["sleep", "60", "&&", "ls", "/"]` becomes
 * `["/bin/sh", "-c", "'sleep' '60' && 'ls' '/'"]`. Without such a word, or with `joinTokens` off, the words
 * are returned unchanged.
 *
 * Throws INVALID_ARGUMENT for such a word without a command on both sides.
 */
export function joinCommand(words: readonly string[], options: { joinTokens: boolean }): string[] {
  const request = new FrameWriter().flag(options.joinTokens);
  request.list(words, (word) => request.string(word));
  const answer = perform(Operation.joinCommand, request);
  return answer.list(() => answer.string());
}

/** What JOB_CUSTOM_CONFIG says. */
export interface CustomConfig {
  options: SlurmOption[];
  /** Settings that are no option: exported in the job. */
  environment: Variable[];
  /** What does not count, alone, and why. Lines are counted from 1. */
  ignored: { line: number; text: string; why: string }[];
}

/** Reads the seed's JOB_CUSTOM_CONFIG; never throws for its text. The form is told in `src/custom_config.rs`. */
export function parseCustomConfig(text: string): CustomConfig {
  const answer = perform(Operation.parseCustomConfig, new FrameWriter().string(text));
  return {
    options: answer.list(() => {
      const name = answer.string();
      const value = answer.optional();
      return value === undefined ? { name } : { name, value };
    }),
    environment: answer.list(() => ({ name: answer.string(), value: answer.string() })),
    ignored: answer.list(() => ({
      line: answer.number(),
      text: answer.string(),
      why: answer.string(),
    })),
  };
}

/** What a job script is made of. Paths are absolute and those of the cluster. */
export interface JobScript {
  jobName: string;
  comment: string;
  /** The container's directory, with the files `env` and, with `hasPrerun`, `prerun.sh`. */
  directory: string;
  /** Become `#SBATCH` lines; those that multicri sets itself are refused. */
  options: readonly SlurmOption[];
  /** SLURM_ and SBATCH_ settings, exported in the job. */
  environment: readonly Variable[];
  hasPrerun: boolean;
  /** How often the job writes `status/usage`, in whole seconds; 0: never. */
  usageSeconds: number;
  /** For the runtime, between `exec` and the image; `--no-eval` and `--containall` belong here. */
  runtimeArguments: readonly string[];
  /** The SIF. */
  image: string;
  /** The program in the container and its arguments. */
  argv: readonly string[];
  /** What starts the ranks of an MPI job, and its own arguments; empty: the program runs once. */
  launcher: readonly string[];
  /** The module that has the launcher, or its version alone; empty: none is loaded. */
  module: string;
}

/**
 * The bash script that sbatch is given. It holds no value of an environment variable of the pod.
 *
 * In the container's directory it writes
 * - `stdout`, `stderr`: the program's own, appended to; `slurm.log`: what Slurm and the prerun say;
 * - `status/claim`: a symbolic link whose target is the id of the job that runs this container; another job
 *   ends at once with 0 and changes nothing;
 * - `status/start`: lines `job=`, `host=`, `pid=` (the runtime's), `time=` (seconds, nanoseconds);
 * - `status/usage`, anew every `usageSeconds`, sooner at first: lines `time=`, `cpu=` (nanoseconds, never fewer than
 * before),
 *   `resident=` (bytes, counted for each process that has them in memory), `own=` (those of them that no file and
 *   no other process can share), `minor=`, `major=` (page faults), `processes=`: of the runtime and what it runs;
 * - `status/exit`: lines `job=`, `code=`, `time=`, `signal=` when one came to the job, and `error=` when the program
 *   never ran.
 *
 * With a `launcher` that starts this script again, as the file `job.sh` of the container's directory, for each rank,
 * which puts the container around the program. Ranks also write
 * - `status/ranks.<node>`: their process ids, one a line, so that signals find them;
 * - `status/ending`: the signal that is to end the job, so that ranks which start later end.
 *
 * Codes that are not the program's: 125 when it could not be started; the prerun's own when it fails (125 when
 * it ended with 0); 128 + signal when a signal came first. TERM, INT, HUP, QUIT, USR1 and USR2 are handed
 * on to the runtime as often as they come. The job ends with the same code.
 *
 * Throws INVALID_ARGUMENT for what cannot be written: no program, NUL, a path that is not absolute, a control
 * character in an option.
 */
export function renderJobScript(job: JobScript): string {
  const request = new FrameWriter().string(job.jobName).string(job.comment).string(job.directory);
  request.list(job.options, ({ name, value }) => request.string(name).optional(value));
  request.list(job.environment, ({ name, value }) => request.string(name).string(value));
  request.flag(job.hasPrerun).number(job.usageSeconds);
  request.list(job.runtimeArguments, (word) => request.string(word));
  request.string(job.image);
  request.list(job.argv, (word) => request.string(word));
  request.list(job.launcher, (word) => request.string(word)).string(job.module);
  return perform(Operation.renderJobScript, request).string();
}

/** What a state of Slurm means for a container. */
export interface SlurmState {
  /** Slurm's long name, of the flag that decides where several are given; the text itself when unknown. */
  name: string;
  /** False for a state that no known Slurm has: it counts as running, never as dead. */
  known: boolean;
  phase: "pending" | "running" | "ended";
  /** How it ended, with phase `ended` only. */
  end?: {
    succeeded: boolean;
    /** Kubernetes' word: Completed, Error, OOMKilled, DeadlineExceeded, Cancelled, NodeFail, Preempted, BootFail. */
    reason: string;
    /**
     * The code of an end that is not the program's own: out of memory 137, cancelled 221, time limit 222,
     * deadline 223, node failed 224, preempted 225, boot failed 226. Absent: the job's own code counts.
     */
    exitCode?: number;
  };
}

/** Reads a state as squeue, scontrol or sacct print it: long or short, with flags, `CANCELLED by 1000`. */
export function slurmState(state: string): SlurmState {
  const answer = perform(Operation.slurmState, new FrameWriter().string(state));
  if (!answer.flag()) return { name: state, known: false, phase: "running" };
  const name = answer.string();
  const phase = answer.string() as SlurmState["phase"];
  if (!answer.flag()) return { name, known: true, phase };
  const end = { succeeded: answer.flag(), reason: answer.string() };
  const exitCode = answer.flag() ? { exitCode: answer.number() } : {};
  return { name, known: true, phase, end: { ...end, ...exitCode } };
}

/**
 * Reads Slurm's `code:signal`; `exitCode` is what a shell makes of it, 128 + signal (137 for sacct's 0:125,
 * out of memory). Throws INVALID_ARGUMENT for anything else.
 */
export function parseExitCode(text: string): { code: number; signal: number; exitCode: number } {
  const answer = perform(Operation.parseExitCode, new FrameWriter().string(text));
  return { code: answer.number(), signal: answer.number(), exitCode: answer.number() };
}

/** In the order of `Kind` in `src/image_name.rs`. */
const IMAGE_KINDS = [
  "docker",
  "shub",
  "oras",
  "library",
  "https",
  "local-image",
  "local-def-file",
] as const;
