import { Socket } from "node:net";
// @ts-types="@types/ssh2"
import { Client, type ServerHostKeyAlgorithm } from "ssh2";
import { CriError, messageOf } from "../../base/error.ts";
import { Authentication } from "./authentication.ts";
import type { HostKeys } from "./host_keys.ts";
import { equalBytes } from "./known_hosts.ts";
import { throughJump } from "./jump.ts";
import type { LoggedIn } from "./logged_in.ts";
import { type ClusterLogin, loginName } from "./login.ts";

/** A login over a slow line to a busy host takes a few seconds; the kubelet's calls wait 120. */
export const CONNECT_TIMEOUT_MS = 20_000;

/** With KEEPALIVE_MISSES, a frozen network is noticed 30 seconds after the last answer. */
const KEEPALIVE_INTERVAL_MS = 10_000;

/** Unanswered keepalives that are borne; the next one's turn ends the connection. */
const KEEPALIVE_MISSES = 2;

/**
 * Ciphers that OpenSSH has had since 6.2 and that Deno has in native code. chacha20-poly1305 is left
 * out: ssh2's portable version of it does not work there.
 */
const CIPHERS = [
  "aes128-gcm@openssh.com",
  "aes256-gcm@openssh.com",
  "aes256-ctr",
  "aes192-ctr",
  "aes128-ctr",
] as const;

/** The types of host keys we accept, best first; plain `ssh-rsa` (SHA-1) is for old servers. */
const HOST_KEY_ALGORITHMS: readonly ServerHostKeyAlgorithm[] = [
  "ssh-ed25519",
  "ecdsa-sha2-nistp256",
  "ecdsa-sha2-nistp384",
  "ecdsa-sha2-nistp521",
  "rsa-sha2-512",
  "rsa-sha2-256",
  "ssh-rsa",
];

export interface ConnectOptions {
  hostKeys: HostKeys;
  /** Ends the attempt. */
  signal: AbortSignal;
  connectTimeoutMs?: number | undefined;
  keepaliveIntervalMs?: number | undefined;
}

/**
 * Connects and logs in, through the jump host if there is one; a private key must be as `parsePrivateKey` gives it. The
 * client has a permanent listener for errors, so that none of them can end the process.
 * @throws CriError UNAVAILABLE when the host cannot be reached, UNAUTHENTICATED when the login is refused,
 * FAILED_PRECONDITION when the host key is not the recorded one, no algorithm is shared or this process
 * lacks the permission, CANCELLED when `signal` aborts.
 */
export async function connect(login: ClusterLogin, options: ConnectOptions): Promise<LoggedIn> {
  const recordedTypes = await options.hostKeys.recordedTypes(login.host, login.port);
  const { signal } = options;
  if (signal.aborted) throw cancelled(login, signal);

  const timeoutMs = options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS;
  const jump = login.jump === undefined
    ? undefined
    : await throughJump(login, await connectToJump(login, login.jump, options), signal, timeoutMs);
  const authentication = new Authentication(login);
  const client = new Client();
  const socket = jump?.socket ?? new Socket();
  const ready = Promise.withResolvers<void>();
  const closed = socket.closed
    ? Promise.resolve()
    : new Promise<void>((resolve) => socket.once("close", () => resolve()));
  let verifiedKey: Uint8Array | undefined;
  /** What we turned the server away for; ssh2 then only says that the verification failed. */
  let hostKeyRefusal: CriError | undefined;
  const onAbort = () => ready.reject(cancelled(login, signal));
  signal.addEventListener("abort", onAbort, { once: true });
  // Errors after the login are told by the connection's end; see Connection.
  client.on("error", (error) => {
    ready.reject(hostKeyRefusal ?? translate(login, error, authentication, timeoutMs));
  });
  client.on("close", () => {
    ready.reject(hungUp(login));
    jump?.client.end();
  });
  client.on("change password", () => ready.reject(expired(login)));
  client.on("ready", () => ready.resolve());
  try {
    client.connect({
      sock: jump?.channel ?? socket,
      username: login.user,
      readyTimeout: timeoutMs,
      keepaliveInterval: options.keepaliveIntervalMs ?? KEEPALIVE_INTERVAL_MS,
      keepaliveCountMax: KEEPALIVE_MISSES,
      algorithms: {
        cipher: [...CIPHERS],
        serverHostKey: preferTypes(recordedTypes),
      },
      hostVerifier: (key: Uint8Array, verify: (valid: boolean) => void) => {
        if (verifiedKey !== undefined) {
          // New session keys (RFC 4253, 9). The answer must be given at once: ssh2 1.17 sends
          // garbage when something is to be sent while a re-exchange waits for it.
          verify(equalBytes(key, verifiedKey));
          return;
        }
        options.hostKeys.check(login.host, login.port, key).then(
          () => {
            verifiedKey = key;
            verify(true);
          },
          (error) => {
            hostKeyRefusal = CriError.from(error);
            verify(false);
          },
        );
      },
      authHandler: (offered, _partial, next) =>
        next(authentication.next(offered) as Parameters<typeof next>[0]),
    });
    // Before the first byte: with Nagle's algorithm the handshake alone takes 80 ms longer.
    socket.setNoDelay(true);
    if (jump === undefined) socket.connect({ host: login.host, port: login.port });
    await ready.promise;
    return { client, socket };
  } catch (error) {
    socket.destroy();
    await closed;
    throw error;
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

/** All accepted algorithms, those of recorded keys first. */
function preferTypes(recordedTypes: readonly string[]): ServerHostKeyAlgorithm[] {
  const isRecorded = (algorithm: string) =>
    recordedTypes.includes(algorithm.startsWith("rsa-") ? "ssh-rsa" : algorithm);
  return [
    ...HOST_KEY_ALGORITHMS.filter((algorithm) => isRecorded(algorithm)),
    ...HOST_KEY_ALGORITHMS.filter((algorithm) => !isRecorded(algorithm)),
  ];
}

/** ssh2 marks its errors with a level; those of the socket have node's codes. */
type Ssh2Error = Error & { level?: string; code?: string | number };

/**
 * SSH_MSG_DISCONNECT codes (RFC 4253, 11.1) that end a login: protocol error ("Too many authentication
 * failures" in OpenSSH), no more methods, illegal user name.
 */
const LOGIN_DISCONNECT_CODES: readonly unknown[] = [2, 14, 15];

const SOCKET_REASONS: Record<string, string> = {
  ENOTFOUND: "the host's name must resolve: it does not",
  EAI_AGAIN: "the host's name must resolve: the name server does not answer",
  ECONNREFUSED: "an ssh server must listen on that port: the connection was refused",
  ETIMEDOUT: "the host must answer: it did not",
  EHOSTUNREACH: "there must be a route to the host: there is none",
  ENETUNREACH: "there must be a route to the host: there is none",
  ECONNRESET: "the host must keep the connection: it was reset",
};

function translate(
  login: ClusterLogin,
  error: Ssh2Error,
  authentication: Authentication,
  timeoutMs: number,
): CriError {
  const name = loginName(login);
  if (
    error.level === "client-authentication" ||
    (error.level === undefined && LOGIN_DISCONNECT_CODES.includes(error.code))
  ) {
    return authentication.refusal();
  }
  if (error.level === "client-timeout") {
    return new CriError(
      "UNAVAILABLE",
      `Cannot connect to ${name} as the login must be done within ${timeoutMs} ms: the server did not answer in time`,
      { cause: error },
    );
  }
  if (error.name === "NotCapable") {
    return new CriError(
      "FAILED_PRECONDITION",
      `Cannot connect to ${name}: this server was started without the permission to reach it; the administrator ` +
        "must name it in --allowed-clusters or --clusters-file.",
      { cause: error },
    );
  }
  if (error.message.startsWith("Handshake failed: no matching")) {
    return new CriError(
      "FAILED_PRECONDITION",
      `Cannot connect to ${name} as both sides must share their algorithms: ${error.message}`,
      { cause: error },
    );
  }
  if (error.message === "Connection lost before handshake") {
    return new CriError(
      "UNAVAILABLE",
      `Cannot connect to ${name} as an ssh server must answer on that port: the connection was closed`,
      { cause: error },
    );
  }
  const reason = SOCKET_REASONS[String(error.code)] ?? messageOf(error);
  return new CriError("UNAVAILABLE", `Cannot connect to ${name} as ${reason}`, { cause: error });
}

function hungUp(login: ClusterLogin): CriError {
  return new CriError(
    "UNAVAILABLE",
    `Cannot log in to ${loginName(login)} as the server must keep the connection: it closed it`,
  );
}

function expired(login: ClusterLogin): CriError {
  return new CriError(
    "UNAUTHENTICATED",
    `Cannot log in to ${loginName(login)} as the password must be current: it has expired`,
  );
}

function cancelled(login: ClusterLogin, signal: AbortSignal): CriError {
  return new CriError(
    "CANCELLED",
    `Connecting to ${loginName(login)} was cancelled: ${messageOf(signal.reason)}`,
    { cause: signal.reason },
  );
}

/** Logs in to a jump host; what fails there is told as such. */
async function connectToJump(
  login: ClusterLogin,
  jump: ClusterLogin,
  options: ConnectOptions,
): Promise<LoggedIn> {
  try {
    return await connect(jump, options);
  } catch (error) {
    if (!(error instanceof CriError)) throw error;
    const message = `The jump host of ${loginName(login)}: ${error.message}`;
    throw new CriError(error.code, message, { cause: error });
  }
}
