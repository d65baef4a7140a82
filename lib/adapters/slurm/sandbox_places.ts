import { CriError, messageOf } from "../../base/error.ts";
import { KeyedMutex } from "../../base/keyed_mutex.ts";
import type { Logger } from "../../base/log.ts";
import type { ClusterChoice, Clusters } from "../../config/clusters.ts";
import type { ClusterSessions } from "../../executors/ssh/sessions.ts";
import type { SecretFiles } from "../../store/secret_files.ts";
import { NO_ANSWER, SLURM_COMMAND_TIMEOUT_MS } from "./account.ts";
import { cleanSandboxScript } from "./volume_scripts.ts";
import { endAllocationScript } from "./allocation_scripts.ts";
import { loginOf } from "./settings.ts";

/** A cluster on which a sandbox has a directory with what its containers share: volumes, a job. */
export interface Place {
  cluster: ClusterChoice;
  /** The sandbox's, absolute on the cluster. */
  directory: string;
  /** Whether its containers share a job. */
  allocation: boolean;
}

/**
 * Where sandboxes have shared volumes and jobs. They outlive every container, and so do the logins by which they are
 * removed, kept with the secrets under the sandbox's id.
 */
export class SandboxPlaces {
  readonly #locks = new KeyedMutex();

  constructor(
    readonly secrets: SecretFiles,
    readonly clusters: Clusters,
    readonly sessions: ClusterSessions,
    readonly log: Logger,
  ) {}

  /** Remembers a place, durably, before anything is made there. */
  async add(sandboxId: string, place: Place): Promise<void> {
    await this.#locks.runExclusive(sandboxId, async () => {
      const places = await this.#read(sandboxId);
      if (places.some((known) => isSame(known.cluster, place.cluster))) return;
      await this.secrets.write(sandboxId, { places: [...places, place] });
    });
  }

  /** Forgets a cluster that is gone for good, so that nobody tries to reach it. */
  async forget(sandboxId: string, cluster: ClusterChoice): Promise<void> {
    await this.#locks.runExclusive(sandboxId, async () => {
      const places = await this.#read(sandboxId);
      const others = places.filter((place) => !isSame(place.cluster, cluster));
      if (others.length < places.length) await this.secrets.write(sandboxId, { places: others });
    });
  }

  /**
   * Ends the jobs that the containers of a sandbox shared; all of them have ended.
   * @throws CriError UNAVAILABLE when that cannot be done now.
   */
  end(sandboxId: string): Promise<void> {
    return this.#each(sandboxId, async (place) => {
      if (place.allocation) await this.#run(place, endAllocationScript(place.directory));
    });
  }

  /**
   * Removes what a sandbox without containers left on its clusters.
   * @throws CriError UNAVAILABLE when that cannot be done now.
   */
  async clean(sandboxId: string): Promise<void> {
    await this.#each(sandboxId, (place) => this.#run(place, cleanSandboxScript(place.directory)));
    await this.secrets.delete(sandboxId);
  }

  async #each(sandboxId: string, work: (place: Place) => Promise<void>): Promise<void> {
    await this.#locks.runExclusive(sandboxId, async () => {
      for (const place of await this.#read(sandboxId)) {
        try {
          await work(place);
        } catch (error) {
          // Without a login nothing can ever be done there, and the sandbox must go nevertheless.
          const { code } = CriError.from(error);
          if (code !== "UNAUTHENTICATED" && code !== "NOT_FOUND") throw error;
          this.log.warning("What a sandbox's containers shared stays on the cluster", {
            sandbox: sandboxId,
            directory: place.directory,
            error: messageOf(error),
          });
        }
      }
    });
  }

  async #run({ cluster, directory }: Place, script: string): Promise<void> {
    const session = this.sessions.acquire(loginOf(cluster, this.clusters));
    try {
      if (session.state.kind === "waiting") await session.connect();
      const { code, stderr } = await session.run(script, { timeoutMs: SLURM_COMMAND_TIMEOUT_MS });
      const words = new TextDecoder().decode(stderr).trim();
      if (code === 0 && !NO_ANSWER.test(words)) return;
      throw new CriError("UNAVAILABLE", `Cannot clear ${directory} on ${session.name}: ${words}`);
    } finally {
      this.sessions.release(session);
    }
  }

  async #read(sandboxId: string): Promise<Place[]> {
    const kept = await this.secrets.read(sandboxId) as { places: Place[] } | undefined;
    return kept?.places ?? [];
  }
}

function isSame(a: ClusterChoice, b: ClusterChoice): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
