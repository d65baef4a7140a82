import { join } from "@std/path";
import { KeyedMutex } from "../base/keyed_mutex.ts";

/**
 * Secrets by container id, one 0600 file each in a 0700 directory: environment values until the job is
 * submitted, cluster credentials until the container is removed. The database holds none.
 */
export class SecretFiles {
  readonly #directory: string;
  /** One change of a file at a time: two would write into the same temporary one. */
  readonly #changes = new KeyedMutex();

  constructor(directory: string) {
    this.#directory = directory;
    Deno.mkdirSync(directory, { recursive: true, mode: 0o700 });
    Deno.chmodSync(directory, 0o700);
  }

  /** Replaces the secrets of `id`, durably. `value` is anything JSON can hold. */
  async write(id: string, value: unknown): Promise<void> {
    await this.#changes.runExclusive(id, () => this.#write(id, value));
  }

  /** Replaces the secrets of `id` by what `change` makes of them: undefined leaves them as they are. */
  async update(id: string, change: (value: unknown) => unknown): Promise<void> {
    await this.#changes.runExclusive(id, async () => {
      const value = await this.read(id);
      const changed = value === undefined ? undefined : change(value);
      if (changed !== undefined) await this.#write(id, changed);
    });
  }

  /** The secrets of `id`, undefined when there are none. */
  async read(id: string): Promise<unknown> {
    try {
      return JSON.parse(await Deno.readTextFile(this.#path(id)));
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return undefined;
      throw error;
    }
  }

  /** Removes the secrets of `id`; missing ones are no error. */
  async delete(id: string): Promise<void> {
    await this.#changes.runExclusive(id, async () => {
      try {
        await Deno.remove(this.#path(id));
      } catch (error) {
        if (!(error instanceof Deno.errors.NotFound)) throw error;
      }
    });
  }

  /** Ids that have secrets, for the clean-up of what a crash left behind. */
  async ids(): Promise<string[]> {
    const ids: string[] = [];
    for await (const entry of Deno.readDir(this.#directory)) {
      const path = join(this.#directory, entry.name);
      if (!entry.name.endsWith(".json")) {
        await Deno.remove(path);
        continue;
      }
      // Whoever loosened it meanwhile: nobody else is to read it.
      await Deno.chmod(path, 0o600);
      ids.push(entry.name.slice(0, -".json".length));
    }
    return ids;
  }

  async #write(id: string, value: unknown): Promise<void> {
    const path = this.#path(id);
    const temporary = `${path}.tmp`;
    using file = await Deno.open(temporary, {
      write: true,
      create: true,
      truncate: true,
      mode: 0o600,
    });
    const bytes = new TextEncoder().encode(JSON.stringify(value));
    for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
    await file.sync();
    await Deno.rename(temporary, path);
  }

  #path(id: string): string {
    if (!/^[\w-]+$/.test(id)) throw new TypeError(`Not an id: '${id}'`);
    return join(this.#directory, `${id}.json`);
  }
}
