import { join } from "@std/path";
import { type Clock, systemClock } from "../../base/clock.ts";
import { CriError } from "../../base/error.ts";
import type { SlurmSettings } from "../../config/slurm_settings.ts";
import type { ClusterSession } from "../../executors/ssh/session.ts";
import type { ImageRecord } from "../../store/records.ts";
import { ExecTurns } from "./exec_turns.ts";
import type { ContainerSettings } from "./settings.ts";
import type { StreamLines } from "./stream_lines.ts";
import { ClusterClock } from "./cluster_clock.ts";
import { type Announce, ClusterImages } from "./cluster_images.ts";
import { PROBE_SCRIPT } from "./cluster_scripts.ts";
import { pruneNewsScript } from "./news_folder.ts";
import { volumeScript } from "./volume_scripts.ts";

/** A Slurm command that takes longer waits for a controller that is away. */
export const SLURM_COMMAND_TIMEOUT_MS = 60_000;

/** What Slurm's commands say when their controller does not answer. */
export const NO_ANSWER = /Unable to contact|timed out|refused|not responding/i;

/** One account on one cluster: its session, what is known of the place, and the images that lie there. */
export class ClusterAccount {
  /** Commands in containers take turns, and those without a time limit leave some to probes. */
  readonly execTurns = new ExecTurns();
  readonly clusterClock: ClusterClock;
  readonly #images: ClusterImages;
  #home: string | undefined;

  constructor(
    readonly session: ClusterSession,
    readonly settings: SlurmSettings,
    /** For what may last long. */
    readonly lines: StreamLines,
    readonly clock: Clock = systemClock,
  ) {
    this.clusterClock = new ClusterClock(session, clock);
    this.#images = new ClusterImages(session, clock);
  }

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
   * The directory of a claim's volume, absolute on the cluster: what a pod's volume `multicri` holds.
   * @param made Called when it was not there, so that nothing can be mounted on it.
   * @throws CriError INVALID_ARGUMENT where images lie there; as `containerDirectory`.
   */
  async volumeDirectory(
    claim: string,
    made: (directory: string) => Promise<void>,
  ): Promise<string> {
    const directory = join(await this.#workingDirectory(), claim);
    // Other pods of the account run what lies there.
    if (`${await this.#imageDirectory()}/`.startsWith(`${directory}/`)) {
      throw new CriError(
        "INVALID_ARGUMENT",
        `Cannot mount the volume ${
          JSON.stringify(claim)
        }: its directory on ${this.name} holds the images of all ` +
          "pods, so it must have another name.",
      );
    }
    const { code, stdout, stderr } = await this.session.run(volumeScript(directory), {
      timeoutMs: SLURM_COMMAND_TIMEOUT_MS,
    });
    if (stdout.length > 0) await made(directory);
    if (code === 0) return directory;
    throw new CriError(
      "FAILED_PRECONDITION",
      `Cannot make the volume's directory ${directory} on ${this.name}: ${
        new TextDecoder().decode(stderr).trim()
      }`,
    );
  }

  /**
   * Makes sure that the image lies on the cluster, and returns its path there; see `ClusterImages.provide`.
   * @param volume The container's volume, if it has one.
   * @param settings The container's: its prerun script comes before the cluster's own runtime, and its choice of where
   * and in whose name counts for a job that makes an image.
   */
  async provideImage(
    image: ImageRecord,
    volume: string | undefined,
    settings: Pick<ContainerSettings, "prerun" | "options">,
    signal: AbortSignal,
    announce: Announce,
  ): Promise<string> {
    const places = {
      own: await this.#imageDirectory(),
      site: this.settings.siteImages,
      volume,
    };
    const { prerun, options } = settings;
    const launcher = this.settings.buildInJob ? imageJob(options) : [];
    return await this.#images.provide(image, places, { prerun, launcher }, signal, announce);
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
    const result = await this.session.run(
      `${PROBE_SCRIPT}${pruneNewsScript(this.settings.mountPath)}`,
      { timeoutMs: SLURM_COMMAND_TIMEOUT_MS },
    );
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
}

/** Options of a container's job that also say where a job that makes its image may run, and at whose expense. */
const IMAGE_JOB_OPTIONS: ReadonlySet<string> = new Set([
  "partition",
  "account",
  "qos",
  "reservation",
]);

/** The words before a program that is to run in a job of its own, on one core. */
function imageJob(options: ContainerSettings["options"]): string[] {
  const chosen = options.filter(({ name }) => IMAGE_JOB_OPTIONS.has(name));
  return [
    "srun",
    "--quiet",
    "--nodes=1",
    "--ntasks=1",
    "--job-name=multicri-image",
    ...chosen.map(({ name, value }) => `--${name}=${value ?? ""}`),
  ];
}
