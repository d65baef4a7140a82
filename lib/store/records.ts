import { ContainerConfig, PodSandboxConfig } from "../cri/api.generated.ts";
import type { ContainerState } from "./container_state.ts";
import type { RecordCodec } from "./table.ts";

/** A pod sandbox. For Slurm pods it is a record only: nothing runs for it on the node. */
export interface SandboxRecord {
  readonly id: string;
  readonly config: PodSandboxConfig;
  readonly runtimeHandler: string;
  readonly createdAtMs: number;
  readonly state: "ready" | "notready";
}

/** A container of one of our sandboxes. */
export interface ContainerRecord {
  readonly id: string;
  readonly sandboxId: string;
  /** As the client sent it, but with every environment value removed: values may be secrets. */
  readonly config: ContainerConfig;
  /** SHA-256 of the whole configuration, values included: tells a repeated request from a new one. */
  readonly configDigest: string;
  /** The image's id, `sha256:…`. */
  readonly imageId: string;
  /**
   * `repository@sha256:…` of the image, kept because RemoveImage takes it from a used one; absent where it has none.
   */
  readonly imageRepoDigest?: string;
  /** The ids of images that it has as volumes; absent without any. */
  readonly volumeImageIds?: readonly string[];
  readonly createdAtMs: number;
  readonly state: ContainerState;
  /** What the adapter needs to find the workload again; JSON that only the adapter reads. */
  readonly workload: unknown;
}

/** How far a container's output has been copied into its log file. */
export interface LogPositionRecord {
  /** The container's id. */
  readonly id: string;
  /** Bytes of the program's output that stand in the log, for each stream. */
  readonly stdoutBytes: number;
  readonly stderrBytes: number;
  /** Size in bytes and inode of the log file just after them; what lies beyond was not recorded. */
  readonly fileBytes: number;
  readonly fileInode: number;
}

/** What a job is recognised by after its container's record was lost in a reboot. */
export interface JobTagRecord {
  /** The container's id. */
  readonly id: string;
  readonly podUid: string;
  readonly containerName: string;
  /** `user@host:port`. */
  readonly account: string;
  /** On the cluster, absolute. */
  readonly directory: string;
}

/** What may exist of a sandbox's own network; written before it is made. */
export interface NetworkAttachmentRecord {
  /** The sandbox's id. */
  readonly id: string;
  /** How far it got: nothing but perhaps a namespace, perhaps something of a plugin's, all of it. */
  readonly phase: "namespace" | "plugins" | "attached";
  readonly netnsPath: string;
  /** The pod's addresses, the one to report first comes first; empty before all is there. */
  readonly addresses: readonly string[];
  /** With what it was attached, to be taken off with the same; JSON that only lib/network reads. */
  readonly attachment: unknown;
  /** What the last plugin answered; absent before one has. */
  readonly result?: unknown;
}

/** Something of the node that the kubelet tells only once. */
export interface NodeSettingRecord {
  readonly id: "podCidr";
  readonly value: string;
}

/** A SIF in the pool. */
export interface SifFile {
  readonly path: string;
  readonly sizeBytes: number;
  /** In hexadecimal digits. */
  readonly sha256: string;
}

/** An image in the pool, or one whose file each container brings on its cluster. */
export interface ImageRecord {
  /**
   * `sha256:` and a digest: of the OCI image configuration, as other CRI runtimes have it; of a SIF that came as one,
   * of the file; of an image without a file, of its name.
   */
  readonly id: string;
  /** Names it was pulled by, as asked, with their canonical form (see `parseImageName`). */
  readonly names: readonly { readonly asked: string; readonly canonical: string }[];
  /** `repository@sha256:…` for each repository it was pulled from. */
  readonly repoDigests: readonly string[];
  /** Absent for an image that comes to be on the cluster only; then one of the next two says how. */
  readonly sif?: SifFile;
  /** What the cluster's own runtime pulls: `docker://…@sha256:…`. */
  readonly clusterSource?: string;
  /**
   * A file of the container's volume: a SIF, or the definition file to build one from; the path is relative to the
   * volume.
   */
  readonly volumeFile?: { readonly kind: "local-image" | "local-def-file"; readonly path: string };
  readonly config: OciImageConfig;
  /** Whether /bin/sh is in the image. */
  readonly hasShell: boolean;
  readonly pulledAtMs: number;
  /** Removed by the client; the file stays while a container needs it. */
  readonly removed: boolean;
}

/** The part of the OCI image configuration (image-spec, config.md) that decides how a container runs. */
export interface OciImageConfig {
  readonly user: string;
  readonly env: readonly string[];
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  readonly workingDir: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly stopSignal: string;
}

/** protobuf messages are kept in their wire form, which no JSON mapping can distort. */
export const sandboxCodec: RecordCodec<SandboxRecord> = {
  version: 1,
  encode: (record) => ({
    ...record,
    config: PodSandboxConfig.encode(record.config).finish().toBase64(),
  }),
  decode(json) {
    const record = json as SandboxRecord & { config: unknown };
    return {
      ...record,
      config: PodSandboxConfig.decode(Uint8Array.fromBase64(String(record.config))),
    };
  },
};

export const containerCodec: RecordCodec<ContainerRecord> = {
  version: 1,
  encode: (record) => ({
    ...record,
    config: ContainerConfig.encode(record.config).finish().toBase64(),
  }),
  decode(json) {
    const record = json as ContainerRecord & { config: unknown };
    return {
      ...record,
      config: ContainerConfig.decode(Uint8Array.fromBase64(String(record.config))),
    };
  },
};

export const logPositionCodec: RecordCodec<LogPositionRecord> = plainCodec();
export const jobTagCodec: RecordCodec<JobTagRecord> = plainCodec();
export const networkAttachmentCodec: RecordCodec<NetworkAttachmentRecord> = plainCodec();
export const nodeSettingCodec: RecordCodec<NodeSettingRecord> = plainCodec();
export const imageCodec: RecordCodec<ImageRecord> = plainCodec();

function plainCodec<R>(): RecordCodec<R> {
  return { version: 1, encode: (record) => record, decode: (json) => json as R };
}
