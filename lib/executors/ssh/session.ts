import { type Clock, systemClock } from "../../base/clock.ts";
import { messageOf } from "../../base/error.ts";
import type { Logger } from "../../base/log.ts";
import type { RunResult } from "../executor.ts";
import { connect } from "./connect.ts";
import { Connection } from "./connection.ts";
import { EarlyEnd, execute } from "./exec.ts";
import type { HostKeys } from "./host_keys.ts";
import { KeptConnection } from "./kept_connection.ts";
import { openLocalFile } from "./local_file.ts";
import { type ClusterLogin, type JumpLogin, loginKey, loginName } from "./login.ts";
import { parsePrivateKey } from "./private_key.ts";
import {
  readFileAt,
  readLink,
  readWholeFile,
  type RemoteStat,
  removeFile,
  statFile,
} from "./remote_files.ts";
import { inPieces, replaceFile } from "./replace_file.ts";
import type { SessionState } from "./session_state.ts";
import type { SftpChannel } from "./sftp_channel.ts";

/** As long as the kubelet waits for most calls. */
export const DEFAULT_RUN_TIMEOUT_MS = 120_000;

/** Enough for any listing; bulk data goes through files. */
const DEFAULT_MAX_OUTPUT_BYTES = 16 * 1024 * 1024;

/** What a session is made from. */
export interface SessionOptions {
  hostKeys: HostKeys;
  logger: Logger;
  clock?: Clock;
  /** For jitter: 0 to 1, as Math.random. */
  random?: () => number;
  connectTimeoutMs?: number;
  keepaliveIntervalMs?: number;
  sftpTimeoutMs?: number;
  /** Tells sessions of one login apart; 0 unless given. */
  line?: number;
}

export interface ScriptOptions {
  /** What the script reads; nothing by default. */
  stdin?: Uint8Array | AsyncIterable<Uint8Array>;
  /** From the call on, the wait for a connection and a channel included; DEFAULT_RUN_TIMEOUT_MS. */
  timeoutMs?: number;
  signal?: AbortSignal;
  /** Bound on stdout and on stderr, each; 16 MiB. */
  maxOutputBytes?: number;
  /**
   * Gets each piece of stdout as it arrives; the result's stdout is then empty, and not bounded. Until a promise that
   * it gives resolves, no further piece comes.
   */
  onStdout?: (piece: Uint8Array) => void | Promise<void>;
}

export interface UploadOptions {
  /** Permission bits of the new file. */
  mode: number;
  signal?: AbortSignal;
  onProgress?: (sentBytes: number, totalBytes: number) => void;
}

/**
 * A login to a cluster, kept up as long as it is used: one ssh connection for commands and files.
 *
 * Every method connects when that is needed. Common errors, apart from those each names: UNAVAILABLE when
 * the cluster cannot be reached or the connection was lost, and nothing of the call took effect;
 * UNAUTHENTICATED when it refuses the login; FAILED_PRECONDITION when its host key is not the recorded one;
 * RESOURCE_EXHAUSTED when too many calls wait.
 */
export class ClusterSession {
  /** `user@host:port`, for messages. */
  readonly name: string;
  /** What sessions are told apart by: `loginKey` and the line. */
  readonly key: string;
  readonly #kept: KeptConnection<Connection>;

  /** @throws CriError INVALID_ARGUMENT when the private key is none that can be used. */
  constructor(login: ClusterLogin, options: SessionOptions) {
    const usable: ClusterLogin = {
      ...withParsedKey(login),
      ...(login.jump === undefined ? {} : { jump: withParsedKey(login.jump) }),
    };
    const { hostKeys, connectTimeoutMs, keepaliveIntervalMs, sftpTimeoutMs } = options;
    this.name = loginName(login);
    this.key = sessionKey(login, options.line);
    this.#kept = new KeptConnection({
      name: this.name,
      clock: options.clock ?? systemClock,
      logger: options.logger,
      random: options.random ?? Math.random,
      open: async (signal) => {
        const loggedIn = await connect(
          usable,
          { hostKeys, signal, connectTimeoutMs, keepaliveIntervalMs },
        );
        const connection = new Connection(this.name, loggedIn, sftpTimeoutMs);
        // It takes its session before commands take them all; whoever needs it is told of an error.
        connection.sftp().catch(() => {});
        return connection;
      },
    });
  }

  get state(): SessionState {
    return this.#kept.state;
  }

  /** Calls `listener` after each change of state, until the returned function is called. */
  onStateChange(listener: (state: SessionState) => void): () => void {
    return this.#kept.onStateChange(listener);
  }

  /** Connects now, whatever the state says about the next attempt. */
  async connect(): Promise<void> {
    await this.#kept.getNow();
  }

  /**
   * Runs a POSIX sh script by the login host's /bin/sh, in the environment that the user's login shell
   * sets up. What login scripts print is not in the result. Resolves whatever the exit code is.
   *
   * Put values into the script, quoted, or into stdin: neither is ever in an argv.
   * @throws CriError UNKNOWN when the connection was lost after the script was handed over: it may have
   * run, and may still; DEADLINE_EXCEEDED after `timeoutMs`, CANCELLED when `signal` aborts and
   * RESOURCE_EXHAUSTED when the output outgrew `maxOutputBytes`: its process group was killed, which may
   * take some seconds more, or the message says that it could not be; FAILED_PRECONDITION when the login
   * shell does not start it; INVALID_ARGUMENT when the script holds NUL or is longer than 1 MiB.
   */
  async run(script: string, options: ScriptOptions = {}): Promise<RunResult> {
    const timeoutMs = options.timeoutMs ?? DEFAULT_RUN_TIMEOUT_MS;
    const early = new AbortController();
    const timer = setTimeout(() => {
      early.abort(
        new EarlyEnd(
          "DEADLINE_EXCEEDED",
          `Cannot wait longer for a command on ${this.name} as it must end within ${timeoutMs} ms`,
        ),
      );
    }, timeoutMs);
    const { signal } = options;
    const onAbort = () => {
      early.abort(
        new EarlyEnd(
          "CANCELLED",
          `A command on ${this.name} was cancelled (${messageOf(signal?.reason)})`,
        ),
      );
    };
    if (signal?.aborted) onAbort();
    signal?.addEventListener("abort", onAbort, { once: true });
    try {
      const connection = await unlessAborted(this.#kept.get(), early.signal);
      return await execute(connection, {
        script,
        stdin: options.stdin ?? new Uint8Array(),
        maxOutputBytes: options.maxOutputBytes ?? DEFAULT_MAX_OUTPUT_BYTES,
        ...(options.onStdout === undefined ? {} : { onStdout: options.onStdout }),
      }, early.signal);
    } catch (error) {
      throw error instanceof EarlyEnd ? error.toError("it was not started") : error;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
    }
  }

  /** The attributes of a file; undefined when there is none. Relative paths start at the home directory. */
  async stat(path: string): Promise<RemoteStat | undefined> {
    return await statFile(await this.#sftp(), path);
  }

  /** Up to `maxBytes` from `offsetBytes` on, none at the end; undefined when there is no file. */
  async readAt(
    path: string,
    offsetBytes: number,
    maxBytes: number,
  ): Promise<Uint8Array | undefined> {
    return await readFileAt(await this.#sftp(), path, offsetBytes, maxBytes);
  }

  /**
   * A whole file; undefined when there is none.
   * @throws CriError RESOURCE_EXHAUSTED when it is longer than `maxBytes`.
   */
  async readFile(path: string, maxBytes: number): Promise<Uint8Array | undefined> {
    return await readWholeFile(await this.#sftp(), path, maxBytes);
  }

  /**
   * Replaces a file as a whole: written as `<path>.<8 hex digits>.part`, then renamed. Its folder must
   * exist.
   * @throws CriError NOT_FOUND without its folder, PERMISSION_DENIED, FAILED_PRECONDITION when the file
   * system refuses (sftp does not say why), UNKNOWN when the connection was lost while renaming.
   */
  async writeFile(path: string, bytes: Uint8Array, options: { mode: number }): Promise<void> {
    await replaceFile(await this.#sftp(), path, inPieces(bytes), options);
  }

  /**
   * Copies a local file, as `writeFile` does.
   * @throws CriError as `writeFile`, and NOT_FOUND without the local file, CANCELLED by `signal`.
   */
  async upload(localPath: string, remotePath: string, options: UploadOptions): Promise<void> {
    const { signal, onProgress, mode } = options;
    using file = await openLocalFile(localPath, signal);
    await replaceFile(await this.#sftp(), remotePath, file.pieces(), {
      mode,
      onWritten: (sentBytes) => onProgress?.(sentBytes, file.sizeBytes),
    });
  }

  /** Where a symbolic link leads; undefined when there is no link. */
  async readLink(path: string): Promise<string | undefined> {
    return await readLink(await this.#sftp(), path);
  }

  /** Removes a file; false when there was none. */
  async remove(path: string): Promise<boolean> {
    return await removeFile(await this.#sftp(), path);
  }

  /** Ends the connection; calls in progress fail. Resolves when nothing of the session is left. */
  close(): Promise<void> {
    return this.#kept.close();
  }

  async #sftp(): Promise<SftpChannel> {
    return await (await this.#kept.get()).sftp();
  }
}

function withParsedKey<L extends JumpLogin>(login: L): L {
  return login.privateKey === undefined
    ? login
    : { ...login, privateKey: parsePrivateKey(login.privateKey, login.passphrase) };
}

/** See `ClusterSession.key`. */
export function sessionKey(login: ClusterLogin, line = 0): string {
  return `${loginKey(login)}/${line}`;
}

/** As `promise`, but rejects with the signal's reason when that aborts first. */
function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    if (signal.aborted) onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}
