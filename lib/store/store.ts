import { DatabaseSync } from "node:sqlite";
import { join } from "@std/path";
import { CriError, messageOf } from "../base/error.ts";
import {
  containerCodec,
  type ContainerRecord,
  imageCodec,
  type ImageRecord,
  logPositionCodec,
  type LogPositionRecord,
  sandboxCodec,
  type SandboxRecord,
} from "./records.ts";
import { SecretFiles } from "./secret_files.ts";
import { Table } from "./table.ts";

/** Where the records live. The image pool outlives a reboot even where pods do not. */
export interface StorePaths {
  /** Directory of the pod and container records: on /run, or in --root-dir with pod persistence. */
  podsDir: string;
  /** Directory of the image records, beside the images. */
  imagesDir: string;
}

/** All durable records of the server. Synchronous: a returned call is on disk. */
export class Store implements Disposable {
  readonly sandboxes: Table<SandboxRecord>;
  readonly containers: Table<ContainerRecord>;
  readonly logPositions: Table<LogPositionRecord>;
  readonly images: Table<ImageRecord>;
  readonly secrets: SecretFiles;
  readonly #databases: readonly DatabaseSync[];

  private constructor(pods: DatabaseSync, images: DatabaseSync, secrets: SecretFiles) {
    this.#databases = [pods, images];
    this.sandboxes = new Table(pods, "sandboxes", sandboxCodec);
    this.containers = new Table(pods, "containers", containerCodec);
    this.logPositions = new Table(pods, "log_positions", logPositionCodec);
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
      const pods = openDatabase(join(paths.podsDir, "pods.db"));
      opened.push(pods);
      const images = openDatabase(join(paths.imagesDir, "images.db"));
      opened.push(images);
      return new Store(pods, images, new SecretFiles(join(paths.podsDir, "secrets")));
    } catch (error) {
      for (const database of opened) database.close();
      throw error;
    }
  }

  [Symbol.dispose](): void {
    for (const database of this.#databases) database.close();
  }
}

function openDatabase(path: string): DatabaseSync {
  try {
    const database = new DatabaseSync(path);
    // EXCLUSIVE keeps a second server off the same records; WAL with FULL makes each commit durable.
    database.exec("PRAGMA locking_mode = EXCLUSIVE");
    database.exec("PRAGMA journal_mode = WAL");
    database.exec("PRAGMA synchronous = FULL");
    Deno.chmodSync(path, 0o600);
    return database;
  } catch (error) {
    throw new CriError(
      "FAILED_PRECONDITION",
      `Cannot open the records in ${path}: ${messageOf(error)}. Another multicri may be using ` +
        "them; else move the file away to start without records.",
      { cause: error },
    );
  }
}
