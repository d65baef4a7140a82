import { type Clock, systemClock } from "../../base/clock.ts";
import { messageOf } from "../../base/error.ts";
import type { RunResult } from "../executor.ts";
import { connect } from "./connect.ts";
import { Connection } from "./connection.ts";
import { EarlyEnd, execute } from "./exec.ts";
import type { HostKeys } from "./host_keys.ts";
import { KeptConnection } from "./kept_connection.ts";
import { type ClusterLogin, type JumpLogin, loginKey, loginName } from "./login.ts";
import { parsePrivateKey } from "./private_key.ts";
import {
  listFolder,
  readFileAt,
  readLink,
  readWholeFile,
  type RemoteStat,
  removeFile,
  statFile,
} from "./remote_files.ts";
import { FileSender, type SendOptions } from "./send_file.ts";
import type { SessionState } from "./session_state.ts";
import type { SftpChannel } from "./sftp_channel.ts";

/** As long as the kubelet waits for most calls. */
export const DEFAULT_RUN_TIMEOUT_MS = 120_000;

/** Enough for any listing; bulk data goes through files. */
const DEFAULT_MAX_OUTPUT_BYTES = 16 * 1024 * 1024;

/** More than an account has jobs; some hundred requests. */
export const MAX_LISTED_NAMES = 10_000;

/** What a session is made from. */
export interface SessionOptions extends SendOptions {
  hostKeys: HostKeys;
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
   * it gives resolves, no further piece comes, nor does the end.
   */
  onStdout?: (piece: Uint8Array) => void | Promise<void>;
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
  readonly #sender: FileSender;

  /** @throws CriError INVALID_ARGUMENT when the private key is none that can be used. */
  constructor(login: ClusterLogin, options: SessionOptions) {
    const usable: ClusterLogin = {
      ...withParsedKey(login),
      ...(login.jump === undefined ? {} : { jump: withParsedKey(login.jump) }),
    };
    const { hostKeys, connectTimeoutMs, keepaliveIntervalMs, sftpTimeoutMs } = options;
    this.#sender = new FileSender(this, usable, options);
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
   * The names of what a folder holds, in no order, of a large one some MAX_LISTED_NAMES; undefined when there is none.
   */
  async list(path: string): Promise<string[] | undefined> {
    return await listFolder(await this.#sftp(), path, MAX_LISTED_NAMES);
  }

  /**
   * Runs a script that reads a local file from stdin, as fast as the node can send it: by its OpenSSH client over a
   * connection of its own, else over this one. The script may be in argv there, so it must hold no secret. Whether it
   * goes on is for the caller to watch.
   * @throws CriError as `run`, and NOT_FOUND without the local file.
   */
  send(script: string, localPath: string, signal: AbortSignal): Promise<RunResult> {
    return this.#sender.send(script, localPath, signal);
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
