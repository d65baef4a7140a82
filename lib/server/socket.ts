/** The unix socket that clients connect to: claimed without harm to a living server, private from its first moment. */
import { CriError, messageOf } from "../base/error.ts";

/** `sun_path` of unix(7) has 108 bytes, one of them for the final NUL. */
const MAX_SOCKET_PATH_BYTES = 107;

/** Whoever may open the socket may run any workload as root, so only the server's own user may. */
const SOCKET_MODE = 0o600;
const PRIVATE_UMASK = 0o077;

/** A socket that this process listens on. */
export interface OwnedSocket {
  /** The next connection, undefined once it is closed. Rejects when one cannot be had now. One call at a time. */
  accept(): Promise<Deno.UnixConn | undefined>;
  /** Takes no more connections, and removes the socket's file, unless that belongs to another server by now. */
  close(): Promise<void>;
}

/**
 * Makes `path` free for a listener: the socket of a server that is gone is removed.
 *
 * @throws CriError INVALID_ARGUMENT when no socket can have that path, FAILED_PRECONDITION when something
 * else is there, ALREADY_EXISTS when a server answers on it
 */
export async function claimSocket(path: string): Promise<void> {
  const bytes = new TextEncoder().encode(path).length;
  if (!path.startsWith("/") || path.includes("\0")) {
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot listen on a unix socket as its path must be absolute: current value is "${path}".`,
    );
  }
  if (bytes > MAX_SOCKET_PATH_BYTES) {
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot listen on the unix socket "${path}" as its path must have at most ${MAX_SOCKET_PATH_BYTES} bytes: ` +
        `it has ${bytes}. Choose a shorter one.`,
    );
  }
  const info = await lstat(path);
  if (info === undefined) return;
  if (!info.isSocket) {
    throw new CriError(
      "FAILED_PRECONDITION",
      `Cannot listen on the unix socket "${path}" as there must be nothing or a left-over socket: ` +
        `it is ${kindOf(info)}. Remove it or choose another path.`,
    );
  }
  if (await answers(path)) {
    throw new CriError(
      "ALREADY_EXISTS",
      `Cannot listen on the unix socket "${path}" as another server answers on it: ` +
        "stop that server or choose another path.",
    );
  }
  await Deno.remove(path).catch(ignoreNotFound);
}

/**
 * Claims `path` and listens there, in private: the socket is made under a umask that gives no one else access, so
 * there is no moment in which another user could connect.
 *
 * The umask is the whole process's, so one call at a time.
 *
 * @throws CriError as {@linkcode claimSocket}, or FAILED_PRECONDITION when `listen` fails
 */
export async function bindSocket(path: string, listen = listenOn): Promise<OwnedSocket> {
  await claimSocket(path);
  const umask = Deno.umask(PRIVATE_UMASK);
  let listener: Deno.UnixListener;
  try {
    listener = listen(path);
  } catch (error) {
    throw bindError(path, error);
  } finally {
    Deno.umask(umask);
  }
  await Deno.chmod(path, SOCKET_MODE);
  const mine = await Deno.lstat(path);
  let closed = false;
  let endAccept = () => {};
  return {
    accept() {
      // Not a race with one promise for all: that would keep what every connection leaves to it.
      return new Promise((resolve, reject) => {
        endAccept = () => resolve(undefined);
        if (closed) endAccept();
        else listener.accept().then(resolve, reject);
      });
    },
    async close() {
      const current = await lstat(path);
      closed = true;
      endAccept();
      if (current === undefined || (current.dev === mine.dev && current.ino === mine.ino)) {
        listener.close();
      } else {
        // It would remove the other server's: Deno's close() goes by the path. Nobody can connect to it any more.
        listener.unref();
      }
    },
  };
}

function listenOn(path: string): Deno.UnixListener {
  return Deno.listen({ transport: "unix", path });
}

async function answers(path: string): Promise<boolean> {
  try {
    const connection = await Deno.connect({ transport: "unix", path });
    connection.close();
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.ConnectionRefused) return false;
    if (error instanceof Deno.errors.NotFound) return false;
    if (error instanceof Deno.errors.WouldBlock) return true; // its queue of connections is full
    throw new CriError(
      "FAILED_PRECONDITION",
      `Cannot listen on the unix socket "${path}" as it cannot be told whether a server answers on it: ` +
        messageOf(error),
      { cause: error },
    );
  }
}

function bindError(path: string, error: unknown): CriError {
  const directory = path.slice(0, path.lastIndexOf("/")) || "/";
  const advice = error instanceof Deno.errors.NotFound
    ? `its directory "${directory}" must exist: create it with mode 0700`
    : messageOf(error);
  return new CriError(
    "FAILED_PRECONDITION",
    `Cannot listen on the unix socket "${path}" as ${advice}.`,
    { cause: error },
  );
}

function kindOf(info: Deno.FileInfo): string {
  if (info.isSymlink) return "a symbolic link";
  if (info.isDirectory) return "a directory";
  return info.isFile ? "a file" : "a device or pipe";
}

async function lstat(path: string): Promise<Deno.FileInfo | undefined> {
  try {
    return await Deno.lstat(path);
  } catch (error) {
    ignoreNotFound(error);
    return undefined;
  }
}

function ignoreNotFound(error: unknown): void {
  if (!(error instanceof Deno.errors.NotFound)) throw error;
}
