// @ts-types="@types/ssh2"
import type { ClientChannel } from "ssh2";
import { type CriCode, CriError, messageOf } from "../../base/error.ts";
import type { LoggedIn } from "./logged_in.ts";
import { type ClusterLogin, loginName } from "./login.ts";

/** SSH_OPEN_ADMINISTRATIVELY_PROHIBITED (RFC 4254, 5.1). */
const PROHIBITED = 1;

/** A login to a jump host, and the way on from there. */
export interface Jump extends LoggedIn {
  channel: ClientChannel;
}

/**
 * Lets a jump host that was logged in to connect to the cluster's login host (direct-tcpip, RFC 4254, 7.2). When that
 * fails, the connection to the jump host is ended.
 * @throws CriError UNAVAILABLE when it cannot reach the host, FAILED_PRECONDITION when it passes no connections on,
 * CANCELLED when `signal` aborts.
 */
export async function throughJump(
  login: ClusterLogin,
  { client, socket }: LoggedIn,
  signal: AbortSignal,
  timeoutMs: number,
): Promise<Jump> {
  const opened = Promise.withResolvers<ClientChannel>();
  const way = login.jump === undefined ? "" : ` through ${loginName(login.jump)}`;
  const refuse = (code: CriCode, why: string) =>
    opened.reject(new CriError(code, `Cannot reach ${loginName(login)}${way}: ${why}`));
  const onClose = () => refuse("UNAVAILABLE", "the jump host closed the connection");
  const onAbort = () => refuse("CANCELLED", messageOf(signal.reason));
  const timer = setTimeout(
    () => refuse("UNAVAILABLE", `the jump host must connect within ${timeoutMs} ms: it did not`),
    timeoutMs,
  );
  const closed = socket.closed
    ? Promise.resolve(onClose())
    : new Promise<void>((resolve) => socket.once("close", () => resolve(onClose())));
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    if (signal.aborted) onAbort();
    // The address that it comes from is for the jump host's log only.
    client.forwardOut("127.0.0.1", 0, login.host, login.port, (error, channel) => {
      if (error === undefined) return opened.resolve(channel);
      const { reason } = error as Error & { reason?: unknown };
      if (reason !== PROHIBITED) return refuse("UNAVAILABLE", messageOf(error));
      refuse("FAILED_PRECONDITION", "the jump host must pass connections on: it is told not to");
    });
    return { client, socket, channel: await opened.promise };
  } catch (error) {
    socket.destroy();
    await closed;
    throw error;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
  }
}
