import type {
  ContainerConfig,
  ContainerUser,
  LinuxContainerResources,
  PodSandboxConfig,
  PsiStats,
  Signal,
} from "../cri/api.generated.ts";
import type { CommandRunner, PortForwarder, StreamsWanted } from "../streaming/process.ts";
import type { ContainerRecord, ImageRecord } from "../store/records.ts";

/** What CreateContainer asks for, with the environment's values. */
export interface ContainerRequest {
  id: string;
  sandboxId: string;
  sandbox: PodSandboxConfig;
  config: ContainerConfig;
  image: ImageRecord;
  /** Of its mounts that are images, by the names that these have there. */
  volumeImages: ReadonlyMap<string, ImageRecord>;
}

/** One line of Status about something an adapter depends on. */
export interface AdapterCondition {
  type: string;
  status: boolean;
  reason: string;
  message: string;
}

/** What a container's processes use, where they run. */
export interface ContainerUsage {
  /** Milliseconds since the epoch on the clock of where they run. */
  measuredAtMs: number;
  /** The same of the processor time, which may be that of an earlier moment. */
  cpuAtMs: number;
  /** Processor time of all of them since the start, ended ones included; never less than before. */
  cpuNanoseconds: bigint;
  /** Processor nanoseconds a second, between the last two measurements; absent after the first. */
  nanoCores?: bigint;
  /** Memory; what processes share is counted for each. */
  residentBytes: bigint;
  /** The part of it that belongs to one process alone (anonymous memory). */
  ownBytes: bigint;
  minorFaults: bigint;
  majorFaults: bigint;
  processes: bigint;
  /** What the kernel counts beside, of containers that have cgroups of their own; absent is what it does not. */
  counted?: Readonly<Partial<Record<CountedFigure, bigint>>>;
  /** How long processes waited for what they needed, where the kernel tells (cgroups of version 2). */
  pressure?: Readonly<Partial<Record<"cpu" | "memory" | "io", PsiStats>>>;
}

/**
 * Figures that the kernel keeps for a cgroup: memory now and at most, that of files and of the kernel, in swap and what
 * may be there, how often the limit was met; processor time by its kinds, periods of the quota and those in which it
 * was used up; threads.
 */
export type CountedFigure =
  | "usageBytes"
  | "peakBytes"
  | "cacheBytes"
  | "mappedBytes"
  | "activeFileBytes"
  | "inactiveFileBytes"
  | "kernelBytes"
  | "swapBytes"
  | "swapLimitBytes"
  | "limitHits"
  | "userNanoseconds"
  | "systemNanoseconds"
  | "periods"
  | "throttledPeriods"
  | "throttledNanoseconds"
  | "threads"
  | "maxThreads";

/** What a container has written into its own layer. */
export interface LayerUsage {
  /** The folder that its file system is known by. */
  directory: string;
  measuredAtMs: number;
  bytes: bigint;
  inodes: bigint;
}

/** What UpdateContainerResources asks for. */
export interface ResourceChange {
  before: LinuxContainerResources | undefined;
  after: LinuxContainerResources;
  annotations: Readonly<Record<string, string>>;
}

/** How a command in a container ended. */
export interface ExecResult {
  stdout: Uint8Array;
  stderr: Uint8Array;
  /** 0 to 255; 128 + n when signal n ended it. */
  exitCode: number;
}

/** What a kubelet may ask of an adapter's pods only where it is told of (RuntimeHandlerFeatures, RuntimeFeatures). */
export interface AdapterFeatures {
  recursiveReadOnlyMounts: boolean;
  supplementalGroupsPolicy: boolean;
  userNamespaces: boolean;
}

/** What an adapter does for pods, beside their containers. */
export interface PodAdapter {
  /**
   * Looks for what cannot be had here, before anything of the pod is made.
   * @param ownNetwork Whether it will have a network of its own, and not the node's.
   * @throws CriError INVALID_ARGUMENT
   */
  check(config: PodSandboxConfig, ownNetwork: boolean): void;
  /**
   * Makes what the pod's containers share. After a failure `remove` must follow.
   * @throws CriError INVALID_ARGUMENT for what the kernel does not take.
   */
  run(id: string, config: PodSandboxConfig): Promise<void>;
  /**
   * Ends what of it still runs; its containers have ended, and no other starts. Nothing when that was done.
   * @throws CriError UNAVAILABLE when that cannot be done now.
   */
  stop(id: string): Promise<void>;
  /**
   * Removes what is left of it, after it was stopped and its containers were removed.
   * @throws CriError UNAVAILABLE when that cannot be done now.
   */
  remove(id: string): Promise<void>;
}

/**
 * Where our own containers run. The runtime (`lib/runtime`) owns names, ids and the order of the verbs of
 * one container; the adapter owns everything about the workload and writes its end into the record.
 *
 * Every method may be called again after a crash or an error.
 */
export interface Adapter {
  readonly name: string;
  readonly features: AdapterFeatures;
  readonly pods: PodAdapter;

  /**
   * Checks a request and keeps what it will need later: secrets go to the secret store, the rest is
   * returned for the record's `workload`. Nothing outside this node is touched, and nothing is left when it fails.
   * @throws CriError INVALID_ARGUMENT, or UNIMPLEMENTED for what cannot be run here.
   */
  prepareContainer(request: ContainerRequest): Promise<unknown>;

  /**
   * Starts a container that is in phase "created". Resolves when it is running; the record then says so.
   * @throws CriError when it is not: the record is back in "created" (nothing was started, try again) or
   * "exited" (it failed for good).
   */
  startContainer(id: string, signal: AbortSignal): Promise<void>;

  /**
   * Ends a running or starting container: SIGTERM, `graceMs` later SIGKILL. Resolves when the record says
   * exited.
   * @throws CriError UNAVAILABLE while the end cannot be seen.
   */
  stopContainer(id: string, graceMs: number, signal: AbortSignal): Promise<void>;

  /**
   * Runs a command in a container that is running, without a terminal and with an empty stdin, and resolves
   * when it ended. `timeoutMs` counts from its first moment; 0 means no limit.
   * @throws CriError DEADLINE_EXCEEDED when it ran longer, and was killed; UNAVAILABLE when nobody can tell now;
   * FAILED_PRECONDITION, INVALID_ARGUMENT when it cannot be run. The signal's reason when that aborts; it is
   * killed then.
   */
  execSync(
    id: string,
    argv: readonly string[],
    timeoutMs: number,
    signal: AbortSignal,
  ): Promise<ExecResult>;

  /**
   * Gives a container up: it counts as ended, and where it runs is neither asked nor told. For an administrator who
   * knows that it can never be reached again.
   */
  abandonContainer(id: string): Promise<void>;

  /**
   * Gives a container that has not ended other resources. The record is the caller's to change.
   * @throws CriError FAILED_PRECONDITION when that is impossible, UNAVAILABLE when it is now.
   */
  updateResources(container: ContainerRecord, change: ResourceChange): Promise<void>;

  /**
   * Prepares a command in a container that is running; the runner begins it, once, on a terminal if `tty`.
   * @throws CriError UNAVAILABLE while nobody can tell whether it can be run, as in a queue. The runner: as `execSync`.
   */
  openExec(
    id: string,
    argv: readonly string[],
    tty: boolean,
    signal: AbortSignal,
  ): Promise<CommandRunner>;

  /**
   * Prepares a client's way to the program of a running container: what it writes from then on, and its stdin and
   * terminal as the container was created with. The runner resolves when the program ended, or the client's stdin where
   * that ends the session, and leaves the program alone when its own signal aborts.
   * @throws CriError as `openExec`.
   */
  openAttach(id: string, wanted: StreamsWanted, signal: AbortSignal): Promise<CommandRunner>;

  /**
   * Prepares connections to ports of any of the containers, which belong to one pod.
   * @throws CriError UNAVAILABLE, FAILED_PRECONDITION when none of them runs.
   */
  openPortForward(ids: readonly string[], signal: AbortSignal): Promise<PortForwarder>;

  /** Removes what an ended or never started container left behind, secrets included. */
  removeContainer(container: ContainerRecord, signal: AbortSignal): Promise<void>;

  /** Continues the log in a new file, after the old one was renamed away. */
  reopenLog(id: string): Promise<void>;

  /** Measures what running containers use, where that is measured when somebody asks. */
  measure?(): Promise<void>;

  /** Whose the container's first process is, where that is known. */
  userOf?(container: ContainerRecord): ContainerUser | undefined;

  /** What asks the container's program to end. */
  stopSignalOf(container: ContainerRecord): Signal;

  /** What the container's processes use as far as it is known; undefined before anything is. */
  usage(id: string): ContainerUsage | undefined;

  /**
   * What the container has written into its own layer, as far as it is known; absent where it has none on this node.
   */
  layerUsage?(id: string): LayerUsage | undefined;

  /** What all containers together have written into such layers, as far as it is known; absent where there are none. */
  layersUsage?(): LayerUsage;

  /** What `crictl inspect` shows beyond the CRI fields; no secrets. */
  describeContainer(container: ContainerRecord): Record<string, unknown>;

  conditions(): AdapterCondition[];

  /**
   * Finds running workloads again, and takes pods out of service that can have no containers any more. Resolves when
   * all were looked at, or could not be within a bounded time.
   */
  recover(): Promise<void>;

  close(): Promise<void>;
}
