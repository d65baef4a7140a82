import { join } from "@std/path";
import type { Clock } from "../base/clock.ts";
import { messageOf } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import type { RemoteBackend } from "./backend.ts";

/** Between two looks at whether something is new. What is younger is lost if server and runtime die together. */
const SAVE_EVERY_MS = 1_000;

/** What a file holds. */
interface Saved {
  /** Whose it is: a name may get another socket. */
  socketPath: string;
  lists: Record<string, string>;
}

/**
 * Keeps what is known of a remote runtime in a file of the state directory (which a reboot empties, and with it the
 * containers), for a server that starts while the runtime is away.
 */
export class Memory {
  readonly #path: string;
  readonly #closed = new AbortController();
  #savedVersion = -1;
  #loop: Promise<void> | undefined;

  constructor(
    private readonly backend: RemoteBackend,
    stateDir: string,
    private readonly clock: Clock,
    private readonly log: Logger,
  ) {
    this.#path = join(stateDir, `last-known-${backend.name}.json`);
  }

  /** Takes up what an earlier process knew; it stands until the runtime answers this one. */
  restore(): void {
    const { known, remote } = this.backend;
    try {
      const saved: Saved = JSON.parse(Deno.readTextFileSync(this.#path));
      if (saved.socketPath === remote.socketPath) known.restore(saved.lists);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return;
      this.#warn("What was last known of a remote runtime cannot be read", error);
    }
  }

  /** Begins to save what changes. */
  start(): void {
    this.#loop ??= this.#saveAgainAndAgain();
  }

  /** Saves what is known now, and ends. */
  async close(): Promise<void> {
    this.#closed.abort();
    await this.#loop;
  }

  async #saveAgainAndAgain(): Promise<void> {
    const { signal } = this.#closed;
    do {
      await this.clock.sleep(SAVE_EVERY_MS, signal).catch(() => {});
      await this.#save();
    } while (!signal.aborted);
  }

  async #save(): Promise<void> {
    const { known, remote } = this.backend;
    const { version } = known;
    if (version === this.#savedVersion) return;
    const saved: Saved = { socketPath: remote.socketPath, lists: known.toJSON() };
    try {
      await Deno.writeTextFile(`${this.#path}.new`, JSON.stringify(saved), { mode: 0o600 });
      await Deno.rename(`${this.#path}.new`, this.#path);
    } catch (error) {
      this.#warn("Cannot keep what was last known of a remote runtime", error);
    }
    // A full disk is not tried again until there is something new.
    this.#savedVersion = version;
  }

  #warn(message: string, error: unknown): void {
    this.log.warning(message, {
      runtime: this.backend.name,
      path: this.#path,
      error: messageOf(error),
    });
  }
}
