// @ts-types="@types/ssh2"
import type { ClientChannel, SFTPWrapper } from "ssh2";
import { systemClock } from "../../base/clock.ts";
import { CriError, messageOf } from "../../base/error.ts";
import { ChannelBudget } from "./channel_budget.ts";
import type { LoggedIn } from "./logged_in.ts";
import { CommandChannel } from "./command_channel.ts";
import { skipSftpBanners } from "./sftp_banner.ts";
import { SFTP_TIMEOUT_MS, SftpChannel } from "./sftp_channel.ts";
import { COMMAND_LINE } from "./shell.ts";

skipSftpBanners();

/** How long a goodbye may take before the socket is closed without one. */
const CLOSE_TIMEOUT_MS = 1_000;

/** First wait after a refused channel; a server clears away closed ones within a millisecond or so. */
const REFUSED_FIRST_WAIT_MS = 5;

/** Waits double up to this. */
const REFUSED_LONGEST_WAIT_MS = 250;

/** Refusals in a row, about 5 s in all, after which the server is taken at its word. */
const MAX_REFUSALS_IN_A_ROW = 25;

/** One logged-in connection, from its login to its end. It never comes back; its session makes another. */
export class Connection {
  readonly budget: ChannelBudget;
  /** Resolves with the reason when the connection has ended, whoever ended it. */
  readonly ended: Promise<CriError>;
  #endedBy: CriError | undefined;
  #sftp: Promise<SftpChannel> | undefined;
  readonly #end = Promise.withResolvers<CriError>();

  constructor(
    readonly name: string,
    private readonly login: LoggedIn,
    private readonly sftpTimeoutMs = SFTP_TIMEOUT_MS,
  ) {
    this.budget = new ChannelBudget(name);
    this.ended = this.#end.promise;
    const { client, socket } = login;
    client.on("error", (error) => this.fail(lossReason(error)));
    client.on("close", () => this.fail("the server closed the connection"));
    socket.on("close", () => this.fail("the connection was closed"));
    if (socket.destroyed) this.fail("the connection was closed right after the login");
  }

  /** Why the connection has ended; undefined while it lives. */
  get endedBy(): CriError | undefined {
    return this.#endedBy;
  }

  /**
   * Opens a channel that runs COMMAND_LINE. Whoever calls holds a place of `budget`, except to end
   * another command.
   * @throws CriError UNAVAILABLE when no channel can be had, FAILED_PRECONDITION when the server allows
   * no commands, the signal's reason when it aborts.
   */
  openCommandChannel(signal: AbortSignal): Promise<CommandChannel> {
    return this.#open(
      "run a command",
      (done) => this.login.client.exec(COMMAND_LINE, done),
      (channel: ClientChannel) => new CommandChannel(channel),
      (channel) => channel.stream.close(),
      signal,
    );
  }

  /**
   * The sftp channel, opened at the first call and anew when it has closed.
   * @throws CriError UNAVAILABLE when no channel can be had, FAILED_PRECONDITION when the server has no
   * sftp.
   */
  sftp(): Promise<SftpChannel> {
    this.#sftp ??= this.#openSftp().then((sftp) => {
      sftp.closed.then(() => this.#sftp = undefined);
      return sftp;
    }, (error) => {
      this.#sftp = undefined;
      throw error;
    });
    return this.#sftp;
  }

  /** Ends the connection at once, with the reason that everyone who uses it gets. */
  fail(reason: string): void {
    this.#finish(reason);
    // After some errors ssh2 waits for the other side to close; a dead one never does.
    this.login.socket.destroy();
  }

  /** Says goodbye and resolves when the socket is closed. */
  async close(): Promise<void> {
    const { client, socket } = this.login;
    this.#finish("the session was closed");
    if (socket.closed) return;
    const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
    client.end();
    const timer = setTimeout(() => socket.destroy(), CLOSE_TIMEOUT_MS);
    await closed;
    clearTimeout(timer);
  }

  #finish(reason: string): void {
    if (this.#endedBy !== undefined) return;
    this.#endedBy = new CriError("UNAVAILABLE", `Lost the connection to ${this.name}: ${reason}`);
    this.budget.close(this.#endedBy);
    this.#end.resolve(this.#endedBy);
  }

  async #openSftp(): Promise<SftpChannel> {
    const timeout = new AbortController();
    const timer = setTimeout(() => {
      this.fail(`opening sftp took longer than ${this.sftpTimeoutMs} ms`);
      timeout.abort(this.#endedBy);
    }, this.sftpTimeoutMs);
    try {
      return await this.#open(
        "reach files",
        (done) => this.login.client.sftp(done),
        (wrapper: SFTPWrapper) =>
          new SftpChannel(wrapper, {
            name: this.name,
            onStalled: (reason) => this.fail(reason),
            connectionEndedBy: () => this.#endedBy,
            timeoutMs: this.sftpTimeoutMs,
          }),
        (sftp) => sftp.close(),
        timeout.signal,
      );
    } finally {
      clearTimeout(timer);
    }
  }

  /** Opens a channel, again and again while the server refuses one more. */
  async #open<Raw, Channel>(
    purpose: string,
    request: (done: (error: Error | undefined, raw: Raw) => void) => unknown,
    adopt: (raw: Raw) => Channel,
    discard: (channel: Channel) => void,
    signal: AbortSignal,
  ): Promise<Channel> {
    let waitMs = REFUSED_FIRST_WAIT_MS;
    for (let refusals = 0; refusals < MAX_REFUSALS_IN_A_ROW; refusals++) {
      const channel = await this.#openOnce(purpose, request, adopt, discard, signal);
      if (channel !== undefined) return channel;
      this.budget.refused();
      await systemClock.sleep(waitMs, signal);
      waitMs = Math.min(2 * waitMs, REFUSED_LONGEST_WAIT_MS);
    }
    throw new CriError(
      "UNAVAILABLE",
      `Cannot ${purpose} on ${this.name} as the server must allow at least 2 sessions a connection ` +
        `(MaxSessions of sshd): it refuses to open one`,
    );
  }

  /** A channel, or undefined when the server refused to open one more. */
  #openOnce<Raw, Channel>(
    purpose: string,
    request: (done: (error: Error | undefined, raw: Raw) => void) => unknown,
    adopt: (raw: Raw) => Channel,
    discard: (channel: Channel) => void,
    signal: AbortSignal,
  ): Promise<Channel | undefined> {
    return new Promise((resolve, reject) => {
      if (this.#endedBy !== undefined) return reject(this.#endedBy);
      if (signal.aborted) return reject(signal.reason);
      const onAbort = () => reject(signal.reason);
      signal.addEventListener("abort", onAbort, { once: true });
      const done = (error: (Error & { reason?: unknown }) | undefined, raw: Raw | undefined) => {
        signal.removeEventListener("abort", onAbort);
        if (error === undefined && raw !== undefined) {
          const channel = adopt(raw);
          if (signal.aborted) discard(channel);
          return resolve(channel);
        }
        if (this.#endedBy !== undefined) return reject(this.#endedBy);
        // Only the answer to "open a channel" carries a reason; "no" to a command or to sftp is final.
        if (error?.reason !== undefined) return resolve(undefined);
        reject(
          new CriError(
            "FAILED_PRECONDITION",
            `Cannot ${purpose} on ${this.name} as the server must allow it: ${messageOf(error)}`,
            { cause: error },
          ),
        );
      };
      try {
        request(done);
      } catch (error) {
        // ssh2 throws "Not connected" when the socket is gone and its close event is still to come.
        this.fail(messageOf(error));
        done(error instanceof Error ? error : new Error(String(error)), undefined);
      }
    });
  }
}

function lossReason(error: Error): string {
  return error.message === "Keepalive timeout" ? "the server stopped answering" : messageOf(error);
}
