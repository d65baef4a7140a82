import { join } from "@std/path";
import type { Clock } from "../../base/clock.ts";
import { CriError, messageOf } from "../../base/error.ts";
import type { Logger } from "../../base/log.ts";
import type { ContainerRecord } from "../../store/records.ts";
import type { Store } from "../../store/store.ts";
import { type ClusterAccount, SLURM_COMMAND_TIMEOUT_MS } from "./account.ts";
import { archiveOf } from "./archive.ts";
import { CopyBudget, readVolume, VERSION_LINK, volumeVersion } from "./kubelet_volumes.ts";
import { planMounts } from "./mounts.ts";
import { copyName } from "./staging.ts";
import { refreshScript } from "./volume_scripts.ts";

/** Kubernetes promises a kubelet's pace of a minute for what it rewrites; a look is one readlink of the node's. */
const LOOK_INTERVAL_MS = 10_000;

/** A volume of the kubelet's, and its copy on the cluster. */
interface CopiedVolume {
  readonly hostPath: string;
  /** Absolute on the cluster. */
  readonly directory: string;
  /** What the cluster has; undefined until it was asked. */
  version?: string | undefined;
  /** Whether the log says that it could not be brought up to date. */
  troubled?: boolean;
}

/**
 * Keeps the copied volumes of an account's containers up to date, as the kubelet keeps those of the node: a Secret that
 * was changed, a service account's token that is about to expire. The cluster's own copy says which version it is, so
 * nothing is recorded.
 */
export class VolumeRefresh {
  readonly #containers = new Map<string, CopiedVolume[]>();
  readonly #stop = new AbortController();
  #wake: (() => void) | undefined;
  #loop: Promise<void> | undefined;

  constructor(
    readonly account: ClusterAccount,
    readonly store: Store,
    readonly kubeletRootDir: string,
    readonly clock: Clock,
    readonly log: Logger,
  ) {}

  /** Looks after a container's volumes, if it has such, until it is removed. */
  add(container: ContainerRecord, directory: string): void {
    const sandbox = this.store.sandboxes.get(container.sandboxId);
    if (sandbox === undefined || this.#containers.has(container.id)) return;
    const mounts = planMounts(container.config, sandbox.config, this.kubeletRootDir);
    const volumes = [...mounts.entries()].flatMap(([number, mount]) =>
      mount.kind === "copied"
        ? [{ hostPath: mount.hostPath, directory: join(directory, copyName(number)) }]
        : []
    );
    if (volumes.length === 0) return;
    this.#containers.set(container.id, volumes);
    this.#wake?.();
    this.#loop ??= this.#run();
  }

  remove(containerId: string): void {
    this.#containers.delete(containerId);
  }

  async close(): Promise<void> {
    this.#stop.abort();
    this.#wake?.();
    await this.#loop;
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      if (this.#containers.size === 0) {
        await this.#untilWoken();
        continue;
      }
      for (const [id, volumes] of [...this.#containers]) {
        for (const volume of volumes) {
          if (this.#stop.signal.aborted || !this.#containers.has(id)) break;
          await this.#look(id, volume);
        }
      }
      await this.clock.sleep(LOOK_INTERVAL_MS, this.#stop.signal).catch(() => {});
    }
  }

  #untilWoken(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = () => {
        this.#wake = undefined;
        resolve();
      };
      if (this.#stop.signal.aborted || this.#containers.size > 0) this.#wake();
    });
  }

  async #look(id: string, volume: CopiedVolume): Promise<void> {
    try {
      // The kubelet may be taking the pod's directory away: then there is nothing new.
      const version = await volumeVersion(volume.hostPath);
      if (version === undefined || version === volume.version) return;
      const { session } = this.account;
      volume.version ??= await session.readLink(join(volume.directory, VERSION_LINK));
      if (version !== volume.version) {
        volume.version = await this.#bring(volume);
        this.log.info("Brought a volume up to date", { container: id, volume: volume.hostPath });
      }
      volume.troubled = false;
    } catch (error) {
      if (volume.troubled) return;
      volume.troubled = true;
      this.log.warning("Cannot bring a volume up to date; the job sees the one from before", {
        container: id,
        volume: volume.hostPath,
        error: messageOf(error),
      });
    }
  }

  /** Brings the present version to the cluster, and returns it. */
  async #bring({ hostPath, directory }: CopiedVolume): Promise<string | undefined> {
    const { version, entries } = await readVolume(hostPath, ".", new CopyBudget());
    if (version === undefined) return undefined;
    const root = `./${version}`;
    const files = entries.filter(({ name }) => name === root || name.startsWith(`${root}/`));
    const links = entries.flatMap((entry) =>
      entry.kind === "link" && entry.name !== `./${VERSION_LINK}` && !files.includes(entry)
        ? [{ name: entry.name.slice("./".length), target: entry.target }]
        : []
    );
    const { code, stderr } = await this.account.session.run(
      refreshScript(directory, version, links),
      {
        stdin: await archiveOf(files),
        timeoutMs: SLURM_COMMAND_TIMEOUT_MS,
        signal: this.#stop.signal,
      },
    );
    if (code === 0) return version;
    throw new CriError(
      "UNAVAILABLE",
      `Cannot write ${directory} on ${this.account.name}: ${
        new TextDecoder().decode(stderr).trim()
      }`,
    );
  }
}
