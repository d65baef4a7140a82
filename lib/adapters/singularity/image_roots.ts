import { join } from "@std/path";
import type { Clock } from "../../base/clock.ts";
import { CriError, messageOf } from "../../base/error.ts";
import { KeyedMutex } from "../../base/keyed_mutex.ts";
import type { Logger } from "../../base/log.ts";
import type { Executor } from "../../executors/executor.ts";
import type { ImageRecord } from "../../store/records.ts";
import { lastWords } from "./oci_runtime.ts";
import type { Node } from "./node.ts";
import type { Places } from "./places.ts";

const MOUNT_TIMEOUT_MS = 60_000;
/** So long an image stays mounted for the next container: mounting takes as long as all else of its creation. */
const IDLE_MS = 10_000;

/** Unmounts what Apptainer mounted, uppermost first, and removes its bundle. What is not mounted does not matter. */
const UNMOUNT = `
for path in "$1/rootfs" "$1/rootfs" "$1/overlay"; do umount -l -- "$path" 2>/dev/null || true; done
rm -rf --one-file-system -- "$1"`;

/**
 * The files of images, each mounted once by Apptainer, whatever the number of its containers, and not much longer than
 * there are any.
 */
export class ImageRoots {
  readonly #turns = new KeyedMutex();
  /** Containers that use an image, by its id. */
  readonly #users = new Map<string, Set<string>>();
  /** What is mounted and not used; aborted when somebody uses it. */
  readonly #idle = new Map<string, AbortController>();
  readonly #unmounts = new Set<Promise<void>>();

  constructor(
    private readonly executor: Executor,
    private readonly node: Node,
    private readonly places: Places,
    private readonly clock: Clock,
    private readonly log: Logger,
  ) {}

  /**
   * Mounts the image for a container unless it is mounted; returns the folder of its files.
   * @throws CriError INVALID_ARGUMENT for an image without a file on this node, INTERNAL in Apptainer's words.
   */
  async use(image: ImageRecord, containerId: string): Promise<string> {
    const bundle = this.places.image(image.id);
    await this.#turns.runExclusive(image.id, async () => {
      const users = this.#users.get(image.id) ?? new Set();
      const idle = this.#idle.get(image.id);
      this.#idle.delete(image.id);
      idle?.abort();
      const isKept = users.size > 0 || idle !== undefined;
      if (!isKept || !await isMounted(bundle)) await this.#mount(image, bundle);
      this.#users.set(image.id, users.add(containerId));
    });
    return join(bundle, "rootfs");
  }

  /** Takes a container into account that used the image before this process began. */
  adopt(imageId: string, containerId: string): void {
    this.#users.set(imageId, (this.#users.get(imageId) ?? new Set()).add(containerId));
  }

  /** The container needs the image's files no more. */
  async release(imageId: string, containerId: string): Promise<void> {
    await this.#turns.runExclusive(imageId, async () => {
      const users = this.#users.get(imageId);
      if (users === undefined || !users.delete(containerId) || users.size > 0) return;
      this.#users.delete(imageId);
      const idle = new AbortController();
      this.#idle.set(imageId, idle);
      const unmount = this.#unmountLater(imageId, idle).finally(() =>
        this.#unmounts.delete(unmount)
      );
      this.#unmounts.add(unmount);
      await Promise.resolve();
    });
  }

  /** Unmounts what is not used. */
  async close(): Promise<void> {
    for (const idle of this.#idle.values()) idle.abort();
    await Promise.all(this.#unmounts);
  }

  async #unmountLater(imageId: string, idle: AbortController): Promise<void> {
    await this.clock.sleep(IDLE_MS, idle.signal).catch(() => {});
    await this.#turns.runExclusive(imageId, async () => {
      // Somebody may have taken it meanwhile.
      if (this.#idle.get(imageId) !== idle) return;
      this.#idle.delete(imageId);
      await this.#unmount(this.places.image(imageId));
    }).catch((error) => {
      this.log.warning("Cannot unmount an image", { image: imageId, error: messageOf(error) });
    });
  }

  /** Unmounts what no container uses: a crash left it. */
  async removeUnused(): Promise<void> {
    const inUse = new Set([...this.#users.keys()].map((id) => this.places.image(id)));
    for await (const { name } of Deno.readDir(this.places.folders.images)) {
      const bundle = join(this.places.folders.images, name);
      if (!inUse.has(bundle)) await this.#unmount(bundle);
    }
  }

  async #mount(image: ImageRecord, bundle: string): Promise<void> {
    if (image.sif === undefined) {
      throw new CriError(
        "INVALID_ARGUMENT",
        `Cannot use the image ${
          image.names[0]?.asked ?? image.id
        } on this node: its file lies on a cluster; ` +
          "name one of a registry.",
      );
    }
    await this.#unmount(bundle);
    const result = await this.executor.run(
      ["apptainer", "--quiet", "oci", "mount", image.sif.path, bundle],
      { timeoutMs: MOUNT_TIMEOUT_MS },
    );
    if (result.code === 0) return;
    await this.#unmount(bundle);
    throw new CriError(
      "INTERNAL",
      `Cannot mount the image ${image.id}: apptainer says: ${lastWords(result)}.`,
    );
  }

  async #unmount(bundle: string): Promise<void> {
    await this.node.script("unmount an image", UNMOUNT, [bundle]);
  }
}

/**
 * Whether an image is mounted and answers: a reboot takes it from containers that it had, and one in user space may
 * die.
 */
async function isMounted(bundle: string): Promise<boolean> {
  try {
    const [root, folder] = [await Deno.stat(join(bundle, "rootfs")), await Deno.stat(bundle)];
    return root.dev !== folder.dev;
  } catch {
    return false;
  }
}
