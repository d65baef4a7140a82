import { DatabaseSync } from "node:sqlite";
import { join } from "@std/path";
import { CriError, messageOf } from "../base/error.ts";
import {
  containerCodec,
  type ContainerRecord,
  imageCodec,
  type ImageRecord,
  jobTagCodec,
  type JobTagRecord,
  logPositionCodec,
  type LogPositionRecord,
  networkAttachmentCodec,
  type NetworkAttachmentRecord,
  nodeSettingCodec,
  type NodeSettingRecord,
  sandboxCodec,
  type SandboxRecord,
} from "./records.ts";
import { SecretFiles } from "./secret_files.ts";
import { Table } from "./table.ts";

/** Where the records live. The image pool outlives a reboot even where pods do not. */
export interface StorePaths {
  /** Directory of the pod and container records: on /run, or in --root-dir with pod persistence. */
  podsDir: string;
  /** Directory of what survives a reboot in any case. */
  rootDir: string;
  /** Directory of the image records, beside the images. */
  imagesDir: string;
}

/** All durable records of the server. Synchronous: what a call wrote survives a crash of the process. */
export class Store implements Disposable {
  readonly sandboxes: Table<SandboxRecord>;
  readonly containers: Table<ContainerRecord>;
  readonly logPositions: Table<LogPositionRecord>;
  /** Of every container that may have something on a cluster; survives a reboot. */
  readonly jobTags: Table<JobTagRecord>;
  /** Survives a reboot, because what plugins reserved for a pod does. */
  readonly networkAttachments: Table<NetworkAttachmentRecord>;
  readonly nodeSettings: Table<NodeSettingRecord>;
  readonly images: Table<ImageRecord>;
  readonly secrets: SecretFiles;
  readonly #databases: readonly DatabaseSync[];

  private constructor(
    pods: DatabaseSync,
    logs: DatabaseSync,
    tags: DatabaseSync,
    networks: DatabaseSync,
    images: DatabaseSync,
    secrets: SecretFiles,
  ) {
    this.#databases = [pods, logs, tags, networks, images];
    this.sandboxes = new Table(pods, "sandboxes", sandboxCodec);
    this.containers = new Table(pods, "containers", containerCodec);
    this.logPositions = new Table(logs, "log_positions", logPositionCodec);
    this.jobTags = new Table(tags, "job_tags", jobTagCodec);
    this.networkAttachments = new Table(networks, "network_attachments", networkAttachmentCodec);
    this.nodeSettings = new Table(networks, "node_settings", nodeSettingCodec);
    this.images = new Table(images, "images", imageCodec);
    this.secrets = secrets;
  }

  /**
   * Opens or creates the records.
   * @throws CriError FAILED_PRECONDITION naming the file when it cannot be opened, is damaged, or is in use by another server.
   */
  static open(paths: StorePaths): Store {
    const opened: DatabaseSync[] = [];
    try {
      const open = (path: string, synchronous: "FULL" | "NORMAL") => {
        const database = openDatabase(path, synchronous);
        opened.push(database);
        return database;
      };
      return new Store(
        open(join(paths.podsDir, "pods.db"), "FULL"),
        // Written with every piece of log, which is not flushed to the disk each time either.
        open(join(paths.podsDir, "logs.db"), "NORMAL"),
        open(join(paths.rootDir, "job_tags.db"), "FULL"),
        open(join(paths.rootDir, "networks.db"), "FULL"),
        open(join(paths.imagesDir, "images.db"), "FULL"),
        new SecretFiles(join(paths.podsDir, "secrets")),
      );
    } catch (error) {
      for (const database of opened) database.close();
      if (error instanceof CriError) throw error;
      throw new CriError(
        "FAILED_PRECONDITION",
        `Cannot keep records in ${paths.podsDir}, ${paths.rootDir} and ${paths.imagesDir}: ` +
          `${messageOf(error)}.`,
        { cause: error },
      );
    }
  }

  [Symbol.dispose](): void {
    const tables = [
      this.sandboxes,
      this.containers,
      this.logPositions,
      this.jobTags,
      this.networkAttachments,
      this.nodeSettings,
      this.images,
    ];
    for (const table of tables) table.writeWaiting();
    for (const database of this.#databases) database.close();
  }
}

function openDatabase(path: string, synchronous: "FULL" | "NORMAL"): DatabaseSync {
  try {
    const database = new DatabaseSync(path);
    // EXCLUSIVE keeps a second server off the same records. WAL survives a crash of the process always,
    // and with FULL each commit survives a power failure too.
    database.exec("PRAGMA locking_mode = EXCLUSIVE");
    database.exec("PRAGMA journal_mode = WAL");
    database.exec(`PRAGMA synchronous = ${synchronous}`);
    Deno.chmodSync(path, 0o600);
    return database;
  } catch (error) {
    throw new CriError(
      "FAILED_PRECONDITION",
      `Cannot open the records in ${path}: ${messageOf(error)}${
        /locked/.test(messageOf(error))
          ? ". Another multicri may be using them."
          : /is full/.test(messageOf(error))
          ? "; make room there."
          : "; move the file away to start without its records."
      }`,
      { cause: error },
    );
  }
}
