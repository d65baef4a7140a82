import { concat } from "@std/bytes/concat";
import { join } from "@std/path";
import { messageOf } from "../../base/error.ts";
import type { Logger } from "../../base/log.ts";
import type { Executor, RunResult } from "../executor.ts";
import { KILLED_EXIT_CODE, runWithFile } from "../file_input.ts";
import type { ClusterLogin, JumpLogin } from "./login.ts";
import { keyForOpenSsh } from "./private_key.ts";
import { quoteShell } from "../../../wasm/core.ts";
import { commandLineOf, MarkerFilter, wrapScript } from "./shell.ts";

/** The first that asks SSH_ASKPASS whatever terminal there is (SSH_ASKPASS_REQUIRE of ssh(1)). */
const OLDEST_VERSION = 8.4;
const VERSION_TIMEOUT_MS = 10_000;

/**
 * Tells ssh the password, which lies in a file: in argv everybody could read it. It does so once, because a server may
 * have other questions, which no password answers.
 */
const ASKPASS = `#!/bin/sh\ncat "$MULTICRI_PASSWORD_FILE" && rm "$MULTICRI_PASSWORD_FILE"\n`;
const PASSWORD_FILE = "MULTICRI_PASSWORD_FILE";

/** Paths that ssh_config(5) takes as they are; `%`, `$`, `~`, quotes and blanks mean something there. */
const PLAIN_PATH = /^\/[\w./-]+$/;

/** Host names and addresses, as settings allow them, that are no option; and users that ssh(1) takes (valid_ruser). */
const PLAIN_HOST = /^[\w.:%][\w.:%-]*$/;
const PLAIN_USER = /^[\w.@+][\w.@+-]*$/;

/** Exit code of ssh(1) when the connection, and not the command, failed. */
const CONNECTION_FAILED = 255;

/** Connecting may take as long as for the session's own connection. */
const OPTIONS = [
  "ConnectTimeout=20",
  // A dead connection ends after a minute: what is underway may keep answers waiting on a slow line.
  "ServerAliveInterval=15",
  "ServerAliveCountMax=4",
  // Only a host whose key the session's own connection has pinned.
  "StrictHostKeyChecking=yes",
  "GlobalKnownHostsFile=/dev/null",
  // Before 8.5 it would add addresses to our file of pins, and refuse a login host whose address had another name.
  "CheckHostIP=no",
  "UpdateHostKeys=no",
  // Nothing of the node's administrator, who is not the cluster's user.
  "IdentitiesOnly=yes",
  "IdentityAgent=none",
  "PreferredAuthentications=publickey,password,keyboard-interactive",
  "NumberOfPasswordPrompts=1",
  // The fastest of its ciphers on processors with AES; the others stay for servers without it.
  "Ciphers=^aes128-gcm@openssh.com,aes256-gcm@openssh.com",
  "LogLevel=ERROR",
];

/** What OpenSsh works with. */
export interface OpenSshPlace {
  executor: Executor;
  /** For private keys and passwords while a login needs them; what is in it is removed at the start. */
  secretsDirectory: string;
  /** Where a program is put that ssh(1) asks for the password, on a file system that runs programs. */
  askpassPath: string;
  /** The pinned host keys; see `HostKeys`. */
  knownHostsPath: string;
}

/** What became of a script: its result, or why it was not begun. */
export type OpenSshOutcome =
  | { kind: "ended"; result: RunResult }
  | { kind: "notBegun"; why: string }
  /** It had begun, and how it went on is not known. */
  | { kind: "lost"; why: string };

/**
 * The node's OpenSSH client, for what is too much for ssh2: it is native code and reads the file itself, so it sends
 * several times as fast and leaves the processor to others.
 */
export class OpenSsh {
  private constructor(private readonly place: OpenSshPlace) {}

  /** Undefined when the node has none that can be used, which a line of the log says. */
  static async find(place: OpenSshPlace, logger: Logger): Promise<OpenSsh | undefined> {
    const why = await unusable(place);
    if (why !== undefined) {
      logger.info(`Images are uploaded by ssh2, which is slower than OpenSSH's client: ${why}`);
      return undefined;
    }
    const { secretsDirectory, askpassPath } = place;
    await Deno.remove(secretsDirectory, { recursive: true }).catch((error) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    });
    await Deno.mkdir(secretsDirectory, { mode: 0o700 });
    await Deno.writeTextFile(askpassPath, ASKPASS);
    await Deno.chmod(askpassPath, 0o700);
    return new OpenSsh(place);
  }

  /** Whether its command line can hold the login's names: they come from pods. */
  serves(login: ClusterLogin): boolean {
    return [login, ...(login.jump === undefined ? [] : [login.jump])]
      .every(({ host, user }) => PLAIN_HOST.test(host) && PLAIN_USER.test(user));
  }

  /**
   * Runs a script that reads a local file from stdin, over a connection of its own. The script is in argv on the
   * cluster, so it must hold no secret.
   * @param login Must have served to log in before: each wrong password counts. Private keys must be as
   * `parsePrivateKey` gives them.
   * @throws CriError as `runWithFile`.
   */
  async send(
    login: ClusterLogin,
    script: string,
    localPath: string,
    signal: AbortSignal,
  ): Promise<OpenSshOutcome> {
    const wrapped = wrapScript(script);
    const { jump } = login;
    const secrets = await Deno.makeTempDir({ dir: this.place.secretsDirectory });
    const [ofLogin, ofJump] = [join(secrets, "login"), join(secrets, "jump")];
    try {
      const way = jump === undefined
        ? []
        : ["-o", proxyCommand(await this.#argv(jump, ofJump), ofJump, jump.host)];
      const argv = await this.#argv(login, ofLogin);
      const command = commandLineOf(wrapped);
      const result = await runWithFile([...argv, ...way, "--", login.host, command], localPath, {
        PATH: Deno.env.get("PATH") ?? "",
        SSH_ASKPASS: this.place.askpassPath,
        SSH_ASKPASS_REQUIRE: "force",
        [PASSWORD_FILE]: passwordPath(ofLogin),
      }, signal);
      return outcomeOf(result, wrapped.marker);
    } finally {
      await Deno.remove(secrets, { recursive: true });
    }
  }

  /** The command line up to the host; the login's secrets are written to files whose names begin with `secrets`. */
  async #argv(
    { port, user, privateKey, password }: JumpLogin,
    secrets: string,
  ): Promise<[string, ...string[]]> {
    const keyPath = `${secrets}.key`;
    if (privateKey !== undefined) {
      await Deno.writeTextFile(keyPath, keyForOpenSsh(privateKey), { mode: 0o600 });
    }
    if (password !== undefined) {
      await Deno.writeTextFile(passwordPath(secrets), `${password}\n`, { mode: 0o600 });
    }
    const options = [
      ...OPTIONS,
      `UserKnownHostsFile=${this.place.knownHostsPath}`,
      privateKey === undefined ? "PubkeyAuthentication=no" : `IdentityFile=${keyPath}`,
      ...(password === undefined
        ? ["PasswordAuthentication=no", "KbdInteractiveAuthentication=no"]
        : []),
    ];
    return [
      ...["ssh", "-F", "/dev/null", "-T", "-p", String(port), "-l", user],
      ...options.flatMap((option) => ["-o", option]),
    ] as [string, ...string[]];
  }
}

function passwordPath(secrets: string): string {
  return `${secrets}.password`;
}

/**
 * ssh_config(5)'s ProxyCommand, which a shell runs: a second client that passes the connection on, with a password of
 * its own.
 */
function proxyCommand(argv: readonly string[], secrets: string, host: string): string {
  const [program = "", ...options] = argv;
  const quote = (words: readonly string[]) =>
    // A percent sign begins a token there; %h and %p are the host and port behind the jump host.
    words.map((word) => quoteShell(word).replaceAll("%", "%%")).join(" ");
  const before = quote(["env", `${PASSWORD_FILE}=${passwordPath(secrets)}`, program]);
  return `ProxyCommand=${before} -W '[%h]:%p' ${quote([...options, "--", host])}`;
}

/** Why the node has no OpenSSH client that can be used; undefined when it has one. */
async function unusable(
  { executor, secretsDirectory, askpassPath, knownHostsPath }: OpenSshPlace,
): Promise<string | undefined> {
  const odd = [secretsDirectory, askpassPath, knownHostsPath].find((path) =>
    !PLAIN_PATH.test(path)
  );
  if (odd !== undefined) return `it would not understand the path ${odd}`;
  try {
    const { stderr } = await executor.run(["ssh", "-V"], { timeoutMs: VERSION_TIMEOUT_MS });
    const said = new TextDecoder().decode(stderr).trim();
    const version = Number(/^OpenSSH_(\d+\.\d+)/.exec(said)?.[1]);
    if (version >= OLDEST_VERSION) return undefined;
    return `it must be OpenSSH ${OLDEST_VERSION} or newer, and is ${said}`;
  } catch (error) {
    return messageOf(error);
  }
}

function outcomeOf({ code, stdout, stderr }: RunResult, marker: string): OpenSshOutcome {
  const output = behindMarker(stdout, marker);
  const errors = behindMarker(stderr, marker);
  const why = new TextDecoder().decode(errors ?? stderr).trim().split("\n").at(-1) ||
    `exit code ${code}`;
  if (output === undefined) return { kind: "notBegun", why };
  // Killed by this node, for its memory for example.
  if (code === CONNECTION_FAILED || code === KILLED_EXIT_CODE) return { kind: "lost", why };
  return { kind: "ended", result: { code, stdout: output, stderr: errors ?? stderr } };
}

/** What comes behind the marker's line; undefined without one. */
function behindMarker(bytes: Uint8Array, marker: string): Uint8Array | undefined {
  const found: Uint8Array[] = [];
  const filter = new MarkerFilter(marker, (chunk) => found.push(chunk), () => {});
  filter.add(bytes);
  return filter.seen ? concat(found) : undefined;
}
