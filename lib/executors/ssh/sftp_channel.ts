// @ts-types="@types/ssh2"
import type { SFTPWrapper } from "ssh2";
import { CriError, messageOf } from "../../base/error.ts";

/**
 * Requests sent and unanswered. sshd's window for a channel is 2 MiB, so more in flight only
 * makes others wait longer; it is also what OpenSSH's own client sends.
 */
export const MAX_REQUESTS_IN_FLIGHT = 64;

/** Requests that wait for their turn: each job's status is a few, and thousands of jobs may be polled at once. */
export const MAX_WAITING_REQUESTS = 16_384;

/**
 * A server that answers nothing for so long while requests are out is taken for dead. A busy shared
 * file system may take seconds for one file, hardly ever this long.
 */
export const SFTP_TIMEOUT_MS = 20_000;

/** SSH_FX codes (draft-ietf-secsh-filexfer-02, 7). */
export const SftpStatus = { endOfFile: 1, noSuchFile: 2, permissionDenied: 3, failure: 4 } as const;

/** What the server answered to a request: no. */
export class SftpStatusError extends Error {
  constructor(readonly status: number, message: string) {
    super(message);
  }
}

export interface SftpChannelOptions {
  /** `user@host:port`. */
  name: string;
  /** Called when the server has stopped answering; must end the connection. */
  onStalled: (reason: string) => void;
  /** Why the whole connection has ended, if it has: the better reason to give. */
  connectionEndedBy: () => CriError | undefined;
  timeoutMs?: number;
}

type Done<T> = (error: (Error & { code?: unknown }) | null | undefined, value: T) => void;

/**
 * The sftp channel of a connection, with promises for callbacks, a bound on the requests in flight and
 * a watch for a server that has stopped answering.
 */
export class SftpChannel {
  /** Resolves when the channel has closed, by either side. */
  readonly closed: Promise<void>;
  readonly #close = Promise.withResolvers<void>();
  readonly #options: SftpChannelOptions;

  /** Requests that were granted their turn and are not answered yet. */
  #inFlight = 0;
  readonly #waiting: (() => void)[] = [];
  readonly #unanswered = new Set<(error: Error) => void>();
  #closedBy: CriError | undefined;
  /** Since when the server has owed an answer; by `performance.now()`. */
  #silentSinceMs = 0;
  #watch: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly wrapper: SFTPWrapper, options: SftpChannelOptions) {
    this.#options = options;
    this.closed = this.#close.promise;
    wrapper.on("error", (error: Error) => this.#closeBy(messageOf(error)));
    wrapper.on("end", () => this.#closeBy("the server closed it"));
    wrapper.on("close", () => this.#closeBy("it was closed"));
  }

  /**
   * Sends one request when its turn comes and resolves with its answer.
   * @throws SftpStatusError when the server says no; CriError UNAVAILABLE when the channel closes before
   * the answer, RESOURCE_EXHAUSTED when too many requests wait.
   */
  async request<T>(send: (wrapper: SFTPWrapper, done: Done<T>) => void): Promise<T> {
    await this.#turn();
    return await new Promise<T>((resolve, reject) => {
      if (this.#closedBy !== undefined) return reject(this.#closedBy);
      if (this.#unanswered.size === 0) this.#silentSinceMs = performance.now();
      this.#unanswered.add(reject);
      this.#watch ??= setTimeout(() => this.#check(), this.#timeoutMs);
      const settle = () => {
        if (!this.#unanswered.delete(reject)) return;
        this.#silentSinceMs = performance.now();
        this.#passTurnOn();
      };
      try {
        send(this.wrapper, (error, value) => {
          settle();
          if (!error) return resolve(value);
          if (typeof error.code === "number") {
            return reject(new SftpStatusError(error.code, messageOf(error)));
          }
          // Not an answer of the server: ssh2 gives up, as it does on all requests of a closing channel.
          this.#closeBy(messageOf(error));
          this.wrapper.end();
          reject(this.#closedBy);
        });
      } catch (error) {
        // ssh2 throws when the server lacks an extension.
        settle();
        reject(error);
      }
    });
  }

  /** `user@host:port`, for messages. */
  get name(): string {
    return this.#options.name;
  }

  close(): void {
    this.wrapper.end();
  }

  get #timeoutMs(): number {
    return this.#options.timeoutMs ?? SFTP_TIMEOUT_MS;
  }

  #turn(): Promise<void> {
    if (this.#closedBy !== undefined) return Promise.reject(this.#closedBy);
    if (this.#inFlight < MAX_REQUESTS_IN_FLIGHT) {
      this.#inFlight++;
      return Promise.resolve();
    }
    if (this.#waiting.length >= MAX_WAITING_REQUESTS) {
      return Promise.reject(
        new CriError(
          "RESOURCE_EXHAUSTED",
          `Cannot reach a file on ${this.#options.name} as at most ${MAX_WAITING_REQUESTS} requests may wait: all places are taken, try again later`,
        ),
      );
    }
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #passTurnOn(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#inFlight--;
    else next();
  }

  #check(): void {
    this.#watch = undefined;
    if (this.#unanswered.size === 0) return;
    const silentMs = performance.now() - this.#silentSinceMs;
    if (silentMs >= this.#timeoutMs) {
      this.#options.onStalled(`sftp did not answer for ${this.#timeoutMs} ms`);
      return;
    }
    this.#watch = setTimeout(() => this.#check(), this.#timeoutMs - silentMs);
  }

  #closeBy(reason: string): void {
    if (this.#closedBy !== undefined) return;
    this.#closedBy = this.#options.connectionEndedBy() ??
      new CriError("UNAVAILABLE", `Lost the sftp channel to ${this.#options.name}: ${reason}`);
    clearTimeout(this.#watch);
    for (const next of this.#waiting.splice(0)) next();
    for (const reject of this.#unanswered) reject(this.#closedBy);
    this.#unanswered.clear();
    this.#close.resolve();
  }
}
