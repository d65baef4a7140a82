import { CriError, messageOf } from "../../base/error.ts";
import { KeyedMutex } from "../../base/keyed_mutex.ts";
import type { Logger } from "../../base/log.ts";
import type { Clusters } from "../../config/clusters.ts";
import type { ClusterSessions } from "../../executors/ssh/sessions.ts";
import type { SecretFiles } from "../../store/secret_files.ts";
import { SLURM_COMMAND_TIMEOUT_MS } from "./account.ts";
import { cleanSandboxScript } from "./volume_scripts.ts";
import { type ClusterChoice, loginOf } from "./settings.ts";

/** A cluster on which a sandbox has a directory with volumes that its containers share. */
interface Place {
  cluster: ClusterChoice;
  /** The sandbox's, absolute on the cluster. */
  directory: string;
}

/**
 * Where sandboxes left shared volumes. They outlive every container, and so do the logins by which they are removed,
 * kept with the secrets under the sandbox's id.
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
  async add(sandboxId: string, cluster: ClusterChoice, directory: string): Promise<void> {
    await this.#locks.runExclusive(sandboxId, async () => {
      const places = await this.#read(sandboxId);
      if (places.some((place) => isSame(place.cluster, cluster))) return;
      await this.secrets.write(sandboxId, { places: [...places, { cluster, directory }] });
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
   * Removes what a sandbox without containers left on its clusters.
   * @throws CriError UNAVAILABLE when that cannot be done now.
   */
  async clean(sandboxId: string): Promise<void> {
    await this.#locks.runExclusive(sandboxId, async () => {
      for (const place of await this.#read(sandboxId)) {
        try {
          await this.#cleanPlace(place);
        } catch (error) {
          // Without a login nothing can ever be done there, and the sandbox must go nevertheless.
          const { code } = CriError.from(error);
          if (code !== "UNAUTHENTICATED" && code !== "NOT_FOUND") throw error;
          this.log.warning("A removed sandbox's volumes stay on the cluster", {
            sandbox: sandboxId,
            directory: place.directory,
            error: messageOf(error),
          });
        }
      }
      await this.secrets.delete(sandboxId);
    });
  }

  async #cleanPlace({ cluster, directory }: Place): Promise<void> {
    const session = this.sessions.acquire(loginOf(cluster, this.clusters));
    try {
      if (session.state.kind === "waiting") await session.connect();
      const { code, stderr } = await session.run(cleanSandboxScript(directory), {
        timeoutMs: SLURM_COMMAND_TIMEOUT_MS,
      });
      if (code === 0) return;
      throw new CriError(
        "UNAVAILABLE",
        `Cannot remove the volumes in ${directory} on ${session.name}: ${
          new TextDecoder().decode(stderr).trim()
        }`,
      );
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
