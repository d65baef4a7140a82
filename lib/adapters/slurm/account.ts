import { join } from "@std/path";
import { CriError } from "../../base/error.ts";
import { KeyedMutex } from "../../base/keyed_mutex.ts";
import type { SlurmSettings } from "../../config/flags.ts";
import type { RunResult } from "../../executors/executor.ts";
import type { ClusterSession } from "../../executors/ssh/session.ts";
import type { ImageRecord } from "../../store/records.ts";
import { ExecTurns } from "./exec_turns.ts";
import type { StreamLines } from "./stream_lines.ts";
import { quoteShell } from "../../../wasm/core.ts";
import { imageDirectoryScript, landImageScript, PROBE_SCRIPT } from "./cluster_scripts.ts";

/** Below this size an upload is too short to be worth a line in the container's log. */
const ANNOUNCED_UPLOAD_BYTES = 16 * 1024 * 1024;

/** A Slurm command that takes longer waits for a controller that is away. */
export const SLURM_COMMAND_TIMEOUT_MS = 60_000;

/** sha256sum on a busy shared file system is at least this fast (20 MB/s). */
const SLOWEST_HASH_BYTES_PER_MS = 20_000;

/** One account on one cluster: its session, what is known of the place, and the images that lie there. */
export class ClusterAccount {
  /** Commands in containers take turns, so that submitting, watching and stopping always find a channel. */
  readonly execTurns = new ExecTurns();
  readonly #uploads = new KeyedMutex();
  #home: string | undefined;

  constructor(
    readonly session: ClusterSession,
    readonly settings: SlurmSettings,
    /** For what may last long. */
    readonly lines: StreamLines,
  ) {}

  get name(): string {
    return this.session.name;
  }

  /**
   * Connects now where the session would wait for its next turn, because somebody waits for the outcome. A
   * refused login is not tried sooner: sites lock accounts that fail often.
   * @throws CriError UNAVAILABLE when the cluster does not answer.
   */
  async reach(): Promise<void> {
    if (this.session.state.kind === "waiting") await this.session.connect();
  }

  /**
   * The directory of a container, absolute on the cluster.
   * @throws CriError UNAVAILABLE, UNAUTHENTICATED …: why the cluster cannot be used.
   */
  async containerDirectory(sandboxId: string, containerId: string): Promise<string> {
    return join(await this.#workingDirectory(), sandboxId, containerId);
  }

  /**
   * Makes sure that the image lies on the cluster, and returns its path there. An upload lands under its
   * name only after its SHA-256 was compared; callers at the same time share it.
   */
  async provideImage(
    image: ImageRecord,
    signal: AbortSignal,
    announce: (message: string) => Promise<void>,
  ): Promise<string> {
    const directory = await this.#imageDirectory();
    const path = join(directory, `${image.id.slice("sha256:".length)}.sif`);
    await this.#uploads.runExclusive(path, async () => {
      if (await this.session.stat(path) !== undefined) return await this.#checkOwner(path);
      const megabytes = Math.ceil(image.sif.sizeBytes / 1_000_000);
      if (image.sif.sizeBytes >= ANNOUNCED_UPLOAD_BYTES) {
        await announce(`uploading the image (${megabytes} MB) to ${this.name}`);
      }
      await this.#required(
        imageDirectoryScript(directory),
        `make the image directory ${directory}`,
      );
      const uploaded = `${path}.${crypto.randomUUID()}.part`;
      try {
        await this.session.upload(image.sif.path, uploaded, { mode: 0o600, signal });
        await this.#required(
          landImageScript(uploaded, path, image.sif.sha256),
          `verify the uploaded image ${path} by its SHA-256`,
          SLURM_COMMAND_TIMEOUT_MS + image.sif.sizeBytes / SLOWEST_HASH_BYTES_PER_MS,
        );
      } catch (error) {
        await this.session.remove(uploaded).catch(() => {});
        throw error;
      }
    });
    return path;
  }

  /** In a directory that users share, an image of somebody else is not what we put there. */
  #checkOwner(path: string): Promise<unknown> {
    return this.#required(
      `[ -O ${quoteShell(path)} ]`,
      `use the image ${path}, which another user owns,`,
    );
  }

  async #workingDirectory(): Promise<string> {
    return join(await this.#homeDirectory(), this.settings.mountPath);
  }

  async #imageDirectory(): Promise<string> {
    const own = this.settings.imageRemoteMount;
    if (own === undefined) return join(await this.#workingDirectory(), ".images");
    return own.startsWith("/") ? own : join(await this.#homeDirectory(), own);
  }

  async #homeDirectory(): Promise<string> {
    if (this.#home !== undefined) return this.#home;
    const result = await this.session.run(PROBE_SCRIPT, { timeoutMs: SLURM_COMMAND_TIMEOUT_MS });
    const [home = "", missing = ""] = new TextDecoder().decode(result.stdout).split("\0");
    if (missing.trim() !== "") {
      throw new CriError(
        "FAILED_PRECONDITION",
        `Cannot use the cluster ${this.name}: these commands are missing from the PATH of its login ` +
          `shell: ${missing.trim()}.`,
      );
    }
    // deno-lint-ignore no-control-regex
    if (!home.startsWith("/") || /[\x00-\x1f\x7f:,]/.test(home)) {
      throw new CriError(
        "FAILED_PRECONDITION",
        `Cannot use the cluster ${this.name}: its home directory must be an absolute path without ` +
          `colons and commas, not ${JSON.stringify(home)}.`,
      );
    }
    this.#home = home;
    return home;
  }

  async #required(script: string, purpose: string, timeoutMs?: number): Promise<RunResult> {
    const result = await this.session.run(script, timeoutMs === undefined ? {} : { timeoutMs });
    if (result.code === 0) return result;
    const words = new TextDecoder().decode(result.stderr).trim() || `exit code ${result.code}`;
    throw new CriError("FAILED_PRECONDITION", `Cannot ${purpose} on ${this.name}: ${words}`);
  }
}
