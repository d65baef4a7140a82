import { assertEquals, assertRejects } from "@std/assert";
import { type CriCode, CriError } from "../../base/error.ts";
import { createLogger, type Logger } from "../../base/log.ts";
import { HostKeys } from "./host_keys.ts";
import type { ClusterLogin } from "./login.ts";
import { ClusterSession, type SessionOptions } from "./session.ts";
import { type Faults, startTestServer, type TestServer } from "./test_server.ts";

/** A server with faults, a session to it and a folder for files. */
export interface TestSession extends AsyncDisposable {
  server: TestServer;
  session: ClusterSession;
  hostKeys: HostKeys;
  /** An empty folder; the server's sftp reaches it by the same path. */
  folder: string;
  /** Lines that were logged. */
  lines: string[];
  /** Another session with the same host keys, closed with this one. */
  open(login: ClusterLogin, options?: Partial<SessionOptions>): ClusterSession;
}

export interface TestSessionOptions {
  faults?: Partial<Faults>;
  login?: Partial<ClusterLogin>;
  session?: Partial<SessionOptions>;
  hostKeys?: string[];
}

export async function startTestSession(options: TestSessionOptions = {}): Promise<TestSession> {
  const folder = await Deno.makeTempDir({ prefix: "multicri-ssh-" });
  const server = await startTestServer({
    ...(options.faults === undefined ? {} : { faults: options.faults }),
    ...(options.hostKeys === undefined ? {} : { hostKeys: options.hostKeys }),
  });
  const { logger, lines } = recordingLogger();
  const hostKeys = new HostKeys(`${folder}/known_hosts`, logger);
  const sessions: ClusterSession[] = [];
  const open = (login: ClusterLogin, more?: Partial<SessionOptions>) => {
    const session = new ClusterSession(login, { hostKeys, logger, ...more });
    sessions.push(session);
    return session;
  };
  const session = open(
    { host: "127.0.0.1", port: server.port, user: "user", password: "right", ...options.login },
    options.session,
  );
  return {
    open,
    server,
    session,
    hostKeys,
    folder,
    lines,
    async [Symbol.asyncDispose]() {
      await Promise.all(sessions.map((each) => each.close()));
      await server[Symbol.asyncDispose]();
      await Deno.remove(folder, { recursive: true });
    },
  };
}

export function recordingLogger(): { logger: Logger; lines: string[] } {
  const lines: string[] = [];
  return { logger: createLogger({ threshold: "debug", write: (line) => lines.push(line) }), lines };
}

/** Asserts that `work` fails with this code and a message that matches. */
export async function assertFails(
  work: () => Promise<unknown>,
  code: CriCode,
  message: RegExp,
): Promise<CriError> {
  const error = await assertRejects(work, CriError);
  assertEquals({ code: error.code, matches: message.test(error.message) || error.message }, {
    code,
    matches: true,
  });
  return error;
}

export function text(bytes: Uint8Array | undefined): string {
  return new TextDecoder().decode(bytes);
}

/** Every byte value, many times over, in an order that is no cycle of a power of two. */
export function everyByte(length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  for (let index = 0; index < length; index++) {
    bytes[index] = (index * 7 + Math.floor(index / 251)) % 256;
  }
  return bytes;
}

/** As assertEquals, without a page of numbers when they differ. */
export function assertSameBytes(actual: Uint8Array | undefined, expected: Uint8Array): void {
  assertEquals(actual?.constructor, Uint8Array);
  assertEquals(actual?.length, expected.length);
  const index = expected.findIndex((byte, at) => actual?.[at] !== byte);
  assertEquals(index, -1, `the byte at ${index} differs`);
}

/** The names in a folder. */
export async function namesIn(folder: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(folder))).map((entry) => entry.name);
}

/** Resolves when `condition` holds. @throws Error when it does not within 10 seconds. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  const endMs = Date.now() + 10_000;
  while (!await condition()) {
    if (Date.now() > endMs) throw new Error(`never came true: ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
