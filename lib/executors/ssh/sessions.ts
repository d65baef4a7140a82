import type { Logger } from "../../base/log.ts";
import { messageOf } from "../../base/error.ts";
import type { ClusterLogin } from "./login.ts";
import { ClusterSession, sessionKey, type SessionOptions } from "./session.ts";

/** A pod's containers come and go within minutes; a login costs the cluster more than an idle session. */
const IDLE_MS = 5 * 60_000;

export interface ClusterSessionsOptions extends SessionOptions {
  logger: Logger;
  /** How long a session without users is kept. */
  idleMs?: number;
}

/** One session for each login with the same credentials, and each line of it, shared by all who use it. */
export class ClusterSessions {
  readonly #entries = new Map<string, Entry>();
  readonly #closing = new Set<Promise<void>>();
  #closed = false;

  constructor(private readonly options: ClusterSessionsOptions) {}

  /**
   * The session for this login, which must be given back by `release`. It does not connect yet. Each `line` is a
   * connection of its own, for what must not wait for the others.
   * @throws CriError INVALID_ARGUMENT when the login's private key is none that can be used.
   */
  acquire(login: ClusterLogin, line = 0): ClusterSession {
    const key = sessionKey(login, line);
    const entry = this.#entries.get(key) ??
      { session: new ClusterSession(login, { ...this.options, line }), users: 0, timer: undefined };
    this.#entries.set(key, entry);
    clearTimeout(entry.timer);
    entry.users++;
    return entry.session;
  }

  /** Gives a session back, once for each time it was acquired. It is closed when it stays unused. */
  release(session: ClusterSession): void {
    if (this.#closed) return;
    const entry = this.#entries.get(session.key);
    if (entry?.session !== session || entry.users === 0) {
      throw new Error(`Cannot release the session to ${session.name} as it is not in use`);
    }
    entry.users--;
    if (entry.users > 0) return;
    entry.timer = setTimeout(() => {
      this.#entries.delete(session.key);
      const closing: Promise<void> = session.close().catch((error) => {
        this.options.logger.warning("Closing an unused session failed", {
          cluster: session.name,
          error: messageOf(error),
        });
      }).finally(() => this.#closing.delete(closing));
      this.#closing.add(closing);
    }, this.options.idleMs ?? IDLE_MS);
  }

  /** Every session there is, used or not yet closed. */
  all(): ClusterSession[] {
    return [...this.#entries.values()].map((entry) => entry.session);
  }

  /** Closes all sessions, whoever uses them; `release` may still be called. */
  async closeAll(): Promise<void> {
    this.#closed = true;
    const entries = [...this.#entries.values()];
    this.#entries.clear();
    for (const entry of entries) clearTimeout(entry.timer);
    await Promise.all([...entries.map((entry) => entry.session.close()), ...this.#closing]);
  }
}

interface Entry {
  session: ClusterSession;
  users: number;
  /** Closes the session when nobody uses it for long enough. */
  timer: ReturnType<typeof setTimeout> | undefined;
}
