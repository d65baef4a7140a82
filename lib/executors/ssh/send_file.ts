import { CriError } from "../../base/error.ts";
import type { Logger } from "../../base/log.ts";
import type { RunResult } from "../executor.ts";
import { openLocalFile } from "./local_file.ts";
import type { ClusterLogin } from "./login.ts";
import type { OpenSsh } from "./openssh.ts";
import type { SessionState } from "./session_state.ts";

/** A hundred gigabytes at a little more than 1 MB/s. */
const MAX_SEND_MS = 24 * 3600 * 1000;

/** How files are sent. */
export interface SendOptions {
  /** The node's own client; without it files go over the session's connection. */
  openSsh?: OpenSsh | undefined;
  logger: Logger;
}

/** What the sender needs of a `ClusterSession`, whose part it is. */
export interface SendingSession {
  readonly name: string;
  readonly state: SessionState;
  stat(path: string): Promise<unknown>;
  run(
    script: string,
    options: { stdin: AsyncIterable<Uint8Array>; timeoutMs: number; signal: AbortSignal },
  ): Promise<RunResult>;
}

/** Sends local files to scripts on the cluster of one session. */
export class FileSender {
  /** Set when OpenSSH's client could not do it: not again, because a site may count it as a failed login. */
  #openSshFailed = false;

  /** A private key of the login must be as `parsePrivateKey` gives it. */
  constructor(
    private readonly session: SendingSession,
    private readonly login: ClusterLogin,
    private readonly options: SendOptions,
  ) {}

  /** See `ClusterSession.send`. */
  async send(script: string, localPath: string, signal: AbortSignal): Promise<RunResult> {
    const result = await this.#byOpenSsh(script, localPath, signal);
    if (result !== undefined) return result;
    using file = await openLocalFile(localPath, signal);
    const stdin = file.pieces();
    return await this.session.run(script, { stdin, timeoutMs: MAX_SEND_MS, signal });
  }

  /** Undefined when OpenSSH's client cannot do it. */
  async #byOpenSsh(
    script: string,
    localPath: string,
    signal: AbortSignal,
  ): Promise<RunResult | undefined> {
    const { openSsh, logger } = this.options;
    if (openSsh === undefined || this.#openSshFailed || !openSsh.serves(this.login)) return;
    // A call over the session first: the host's key is then pinned, and the login was accepted.
    if (this.session.state.kind !== "ready") await this.session.stat("/");
    const outcome = await openSsh.send(this.login, script, localPath, signal);
    if (outcome.kind === "ended") return outcome.result;
    if (outcome.kind === "lost") {
      throw new CriError(
        "UNKNOWN",
        `Cannot tell how a command on ${this.session.name} ended as the connection must stay until ` +
          `then: ${outcome.why}`,
      );
    }
    this.#openSshFailed = true;
    logger.warning("Images are uploaded more slowly, as OpenSSH's client cannot do it", {
      cluster: this.session.name,
      ssh: outcome.why,
    });
  }
}
