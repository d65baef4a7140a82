import { generateKeyPairSync } from "node:crypto";
import { connect as connectTcp, type Socket } from "node:net";
// @ts-types="@types/ssh2"
import {
  type AuthContext,
  type Connection as ServerConnection,
  Server,
  type ServerChannel,
  type Session,
} from "ssh2";
import { parsePrivateKey } from "./private_key.ts";
import { serveSftp, type SftpFault } from "./test_sftp_server.ts";

/** What a test makes the server do wrong. All of it may be changed while the server runs. */
export interface Faults {
  /** Decides on each authentication request; by default the password "right" is accepted. */
  authenticate: (context: AuthContext) => void;
  /** Sessions (commands and sftp) a connection may have open. */
  maxSessions: number;
  /** What login scripts print, on stdout and on stderr, before a command starts. */
  loginNoise: string;
  /** Whether later connections may go on through this one, as through a jump host; else that is prohibited. */
  forwards: boolean;
  /** Called for each command; true when it deals with the channel itself. */
  onCommand: (channel: ServerChannel, connection: ServerConnection) => boolean;
  onSftp: SftpFault;
}

/** An ssh server in this process that runs commands by the machine's own /bin/sh. */
export interface TestServer extends AsyncDisposable {
  port: number;
  faults: Faults;
  /** Logins so far, refused ones included. */
  connections: number;
  /** Commands so far. */
  commands: number;
  /** The most commands that were running at once. */
  mostCommandsAtOnce: number;
  /** Resets every connection. */
  cutAll(): void;
}

const TEST_PASSWORD = "right";

/** A private host key, fresh each time. */
export function makeHostKey(type: "ed25519" | "ecdsa" = "ed25519"): string {
  const pair = type === "ed25519"
    ? generateKeyPairSync("ed25519")
    : generateKeyPairSync("ec", { namedCurve: "P-256" });
  return parsePrivateKey(pair.privateKey.export({ type: "pkcs8", format: "pem" }).toString());
}

export function acceptPassword(context: AuthContext): void {
  if (context.method === "password" && context.password === TEST_PASSWORD) context.accept();
  else context.reject(["password"]);
}

export async function startTestServer(
  options: { hostKeys?: string[]; port?: number; faults?: Partial<Faults> } = {},
): Promise<TestServer> {
  const connections = new Set<ServerConnection>();
  const children = new Set<Deno.ChildProcess>();
  const faults: Faults = {
    authenticate: acceptPassword,
    maxSessions: 10,
    loginNoise: "",
    forwards: false,
    onCommand: () => false,
    onSftp: () => "serve",
    ...options.faults,
  };
  const handle = new Server({ hostKeys: options.hostKeys ?? [makeHostKey()] }, (connection) => {
    connections.add(connection);
    socketOf(connection).setNoDelay(true);
    server.connections++;
    connection.on("error", () => {
      // Tests cut connections; the close event follows.
    });
    connection.on("close", () => connections.delete(connection));
    connection.on("authentication", (context) => faults.authenticate(context));
    if (faults.forwards) {
      connection.on("tcpip", (accept, _reject, { destIP, destPort }) => {
        passOn(connectTcp(destPort, destIP), accept);
      });
    }
    let sessions = 0;
    connection.on("session", (accept, reject) => {
      if (sessions >= faults.maxSessions) return reject();
      sessions++;
      const session = accept();
      session.on("close", () => sessions--);
      serveSession(session, connection);
    });
  });

  let running = 0;
  function serveSession(session: Session, connection: ServerConnection): void {
    session.on("sftp", (accept) => serveSftp(accept(), (request) => faults.onSftp(request)));
    session.on("exec", (accept, _reject, info) => {
      server.commands++;
      const channel = accept();
      channel.on("error", () => {});
      if (faults.onCommand(channel, connection)) return;
      server.mostCommandsAtOnce = Math.max(server.mostCommandsAtOnce, ++running);
      channel.write(faults.loginNoise);
      channel.stderr.write(faults.loginNoise);
      runCommand(info.command, channel, children).finally(() => running--);
    });
  }

  const server: TestServer = {
    port: 0,
    faults,
    connections: 0,
    commands: 0,
    mostCommandsAtOnce: 0,
    cutAll: () => {
      for (const connection of connections) socketOf(connection).destroy();
    },
    async [Symbol.asyncDispose]() {
      const ended = [...connections].map((connection) =>
        new Promise<void>((resolve) => connection.on("close", () => resolve()))
      );
      const closed = new Promise<void>((resolve) => handle.close(() => resolve()));
      server.cutAll();
      await Promise.all([closed, ...ended, ...[...children].map(killGroup)]);
    },
  };
  await new Promise<void>((resolve) =>
    handle.listen(options.port ?? 0, "127.0.0.1", () => resolve())
  );
  const address = handle.address();
  if (address === null || typeof address === "string") throw new Error("no TCP port to listen on");
  server.port = address.port;
  return server;
}

/** Passes a connection on, both ways, until one side ends it. */
function passOn(socket: Socket, accept: () => ServerChannel): void {
  let channel: ServerChannel | undefined;
  socket.setNoDelay(true);
  socket.once("connect", () => {
    const opened = channel = accept();
    opened.on("error", () => socket.destroy());
    opened.on("close", () => socket.destroy());
    socket.pipe(opened).pipe(socket);
  });
  socket.on("error", () => channel?.close());
  socket.on("close", () => channel?.close());
}

/** ssh2 offers no way to reset a connection or to send at once. */
function socketOf(connection: ServerConnection): Socket {
  return (connection as unknown as { _sock: Socket })._sock;
}

async function killGroup(child: Deno.ChildProcess): Promise<void> {
  await new Deno.Command("kill", { args: ["-s", "KILL", "--", `-${child.pid}`] }).output();
  await child.status;
}

/** As sshd does: a session and process group of its own, pipes, and the exit told before the close. */
async function runCommand(
  command: string,
  channel: ServerChannel,
  children: Set<Deno.ChildProcess>,
): Promise<void> {
  const child = new Deno.Command("setsid", {
    args: ["/bin/sh", "-c", command],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  children.add(child);
  const stdin = child.stdin.getWriter();
  channel.on("data", (chunk: Uint8Array) => stdin.write(chunk.slice()).catch(() => {}));
  channel.on("end", () => stdin.close().catch(() => {}));
  const gone = new Promise<void>((resolve) => channel.on("close", () => resolve()));
  gone.then(() => stdin.abort()).catch(() => {});
  const copy = async (
    from: ReadableStream<Uint8Array>,
    to: { write(chunk: Uint8Array): boolean },
  ) => {
    const reader = from.getReader();
    // Whoever writes to a channel that is gone gets SIGPIPE.
    gone.then(() => reader.cancel()).catch(() => {});
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      to.write(next.value);
    }
  };
  const [status] = await Promise.all([
    child.status,
    copy(child.stdout, channel),
    copy(child.stderr, channel.stderr),
  ]);
  children.delete(child);
  if (status.signal === null) channel.exit(status.code);
  else channel.exit(status.signal.replace("SIG", ""), false, "");
  channel.end();
}
