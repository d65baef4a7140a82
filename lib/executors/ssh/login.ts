import { createHmac, randomBytes } from "node:crypto";

/** Where and as whom to log in to a cluster. */
export interface ClusterLogin {
  /** Name or address, without brackets. */
  host: string;
  port: number;
  user: string;
  password?: string;
  /** Text of a private key as it came from a secret; see `parsePrivateKey`. */
  privateKey?: string;
  /** Of the private key. */
  passphrase?: string;
  /** The host through which alone this one can be reached. */
  jump?: JumpLogin;
}

/** A login to a host that only passes connections on. */
export type JumpLogin = Omit<ClusterLogin, "jump">;

/** How messages and logs name a login: `user@host:port`, an IPv6 address in brackets. */
export function loginName(login: Pick<ClusterLogin, "host" | "port" | "user">): string {
  const host = login.host.includes(":") ? `[${login.host}]` : login.host;
  return `${login.user}@${host}:${login.port}`;
}

/**
 * A fresh salt each start: an unsalted hash of a password could be guessed offline by whoever sees the
 * key in a log or a dump.
 */
const salt = randomBytes(32);

/**
 * Names the account *and* the credentials, so that a pod with a wrong password never rides on the
 * session that another pod has to the same account. Equal within one process only: never store it.
 */
export function loginKey(login: ClusterLogin): string {
  const hmac = createHmac("sha256", salt);
  const { jump } = login;
  const ofJump = jump === undefined
    ? []
    : [loginName(jump), jump.password, jump.privateKey, jump.passphrase];
  for (const secret of [login.password, login.privateKey, login.passphrase, ...ofJump]) {
    // The length in front keeps ("ab", "c") apart from ("a", "bc"), and absent apart from empty.
    hmac.update(secret === undefined ? "-;" : `${secret.length};`).update(secret ?? "");
  }
  return `${loginName(login)}#${hmac.digest("hex")}`;
}
