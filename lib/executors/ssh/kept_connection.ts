import type { Clock } from "../../base/clock.ts";
import { CriError, messageOf } from "../../base/error.ts";
import type { Logger } from "../../base/log.ts";
import { isRefusal, refusalDelayMs, retryDelayMs, type SessionState } from "./session_state.ts";

/** Calls to a cluster that is down get the last error again until so long after the last attempt. */
const ATTEMPT_SPACING_MS = 1_000;

/** A connection lost sooner counts as a failed attempt: some servers let us in only to throw us out. */
const STABLE_AFTER_MS = 30_000;

/** What is kept up: something that ends by itself, with a reason, or by `close`. */
export interface Endable {
  readonly ended: Promise<CriError>;
  close(): Promise<void>;
}

export interface KeptConnectionOptions<Connection> {
  /** `user@host:port`, for messages. */
  name: string;
  /** Connects and logs in; rejects with a CriError, at once when `signal` aborts. */
  open: (signal: AbortSignal) => Promise<Connection>;
  clock: Clock;
  logger: Logger;
  /** 0 to 1, as Math.random. */
  random: () => number;
}

/** Makes a connection when one is needed and again when it was lost. */
export class KeptConnection<Connection extends Endable> {
  #state: SessionState = { kind: "idle" };
  #connection: Connection | undefined;
  #connecting: Promise<Connection> | undefined;
  /** Attempts that failed and connections that were lost soon, since one lasted. */
  #failures = 0;
  /** When a call may try again. */
  #soonestMs = -Infinity;
  readonly #closing = new AbortController();
  /** Ends the wait for the next attempt. */
  #wait: AbortController | undefined;
  readonly #listeners = new Set<(state: SessionState) => void>();

  constructor(private readonly options: KeptConnectionOptions<Connection>) {}

  get state(): SessionState {
    return this.#state;
  }

  onStateChange(listener: (state: SessionState) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * The connection, made now if there is none. All who call meanwhile share one attempt and its error.
   * @throws CriError the attempt's, or the last one's when it is too early for another; UNAVAILABLE once
   * closed.
   */
  get(): Promise<Connection> {
    if (this.#connection !== undefined) return Promise.resolve(this.#connection);
    const state = this.#state;
    if (state.kind === "refused" || state.kind === "waiting") {
      const untilMs = state.kind === "refused" ? state.untilMs : this.#soonestMs;
      if (this.options.clock.now() < untilMs) return Promise.reject(state.error);
    }
    return this.getNow();
  }

  /** As `get`, whatever came of the last attempt and when. */
  getNow(): Promise<Connection> {
    if (this.#connection !== undefined) return Promise.resolve(this.#connection);
    if (this.#state.kind === "closed") return Promise.reject(this.#closedError());
    return this.#connecting ??= this.#attempt();
  }

  /** Ends the connection or the attempt to make one. Resolves when nothing is left. */
  async close(): Promise<void> {
    const connection = this.#connection;
    this.#connection = undefined;
    this.#setState({ kind: "closed" });
    this.#wait?.abort();
    this.#closing.abort(this.#closedError());
    await this.#connecting?.catch(() => {
      // Whoever waited for the attempt has its error.
    });
    await connection?.close();
  }

  async #attempt(): Promise<Connection> {
    const { open, clock } = this.options;
    this.#wait?.abort();
    this.#setState({ kind: "connecting", attempt: this.#failures + 1 });
    try {
      const connection = await open(this.#closing.signal);
      if (this.#closing.signal.aborted) {
        await connection.close();
        throw this.#closedError();
      }
      this.#connection = connection;
      this.#setState({ kind: "ready", sinceMs: clock.now() });
      this.options.logger.info("Connected to a cluster", { cluster: this.options.name });
      const sinceMs = clock.now();
      connection.ended.then((error) => {
        if (this.#connection !== connection) return;
        this.#connection = undefined;
        if (clock.now() - sinceMs >= STABLE_AFTER_MS) this.#failures = 0;
        // After one loss, whoever calls next may connect at once; after some in a row, not any more.
        this.#failed(error, this.#failures === 0 ? 0 : ATTEMPT_SPACING_MS);
      });
      return connection;
    } catch (thrown) {
      const error = CriError.from(thrown);
      if (!this.#closing.signal.aborted) this.#failed(error, ATTEMPT_SPACING_MS);
      throw error;
    } finally {
      this.#connecting = undefined;
    }
  }

  #failed(error: CriError, spacingMs: number): void {
    const { clock, random, logger, name } = this.options;
    const attempt = ++this.#failures;
    logger.warning(error.message, { cluster: name, code: error.code, attempt });
    this.#soonestMs = clock.now() + spacingMs;
    const delayMs = error.code === "UNAUTHENTICATED"
      ? refusalDelayMs(attempt)
      : retryDelayMs(attempt, random());
    const untilMs = clock.now() + delayMs;
    if (isRefusal(error)) {
      this.#setState({ kind: "refused", attempt, error, untilMs });
      return;
    }
    this.#setState({ kind: "waiting", attempt, error, untilMs });
    const wait = new AbortController();
    this.#wait = wait;
    clock.sleep(delayMs, wait.signal).then(
      () =>
        this.getNow().catch(() => {
          // The state tells, and the next caller is told.
        }),
      () => {
        // Someone else connects already, or the session is closed.
      },
    );
  }

  #setState(state: SessionState): void {
    this.#state = state;
    for (const listener of this.#listeners) {
      try {
        listener(state);
      } catch (error) {
        this.options.logger.error("A listener for a session's state failed", {
          cluster: this.options.name,
          error: messageOf(error),
        });
      }
    }
  }

  #closedError(): CriError {
    return new CriError(
      "UNAVAILABLE",
      `Cannot use the session to ${this.options.name} as it must be open: it was closed`,
    );
  }
}
