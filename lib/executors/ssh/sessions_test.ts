import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { HostKeys } from "./host_keys.ts";
import { ClusterSessions } from "./sessions.ts";
import { startTestServer } from "./test_server.ts";
import { assertFails, recordingLogger, until } from "./test_session.ts";

const LOGIN = { host: "127.0.0.1", port: 1, user: "ada", password: "right" };

function makeSessions(idleMs: number, path = "/no/such/file") {
  const { logger } = recordingLogger();
  return new ClusterSessions({ hostKeys: new HostKeys(path, logger), logger, idleMs });
}

Deno.test("ClusterSessions.acquire() shares a session when logins and credentials are the same", async () => {
  const sessions = makeSessions(1_000);
  const first = sessions.acquire(LOGIN);
  assertStrictEquals(sessions.acquire({ ...LOGIN }), first);
  const other = sessions.acquire({ ...LOGIN, password: "wrong" });
  assert(other !== first);
  const line = sessions.acquire(LOGIN, 1);
  assert(line !== first && line === sessions.acquire(LOGIN, 1));
  assertEquals(sessions.all(), [first, other, line]);
  await sessions.closeAll();
  assertEquals([first.state.kind, other.state.kind], ["closed", "closed"]);
});

Deno.test("ClusterSessions.acquire() keeps a wrong password off the session of a right one", async () => {
  const folder = await Deno.makeTempDir({ prefix: "multicri-sessions-" });
  await using server = await startTestServer();
  const sessions = makeSessions(1_000, `${folder}/known_hosts`);
  try {
    const right = sessions.acquire({ ...LOGIN, port: server.port });
    assertEquals((await right.run("exit 3")).code, 3);
    const wrong = sessions.acquire({ ...LOGIN, port: server.port, password: "hunter2" });
    await assertFails(() => wrong.run("true"), "UNAUTHENTICATED", /refused/);
    assertEquals(server.commands, 1);
  } finally {
    await sessions.closeAll();
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("ClusterSessions.release() closes a session when its last user is gone for long", async () => {
  const sessions = makeSessions(20);
  const session = sessions.acquire(LOGIN);
  sessions.acquire(LOGIN);
  sessions.release(session);
  await new Promise((resolve) => setTimeout(resolve, 60));
  assertEquals(session.state.kind, "idle");
  sessions.release(session);
  assertStrictEquals(sessions.acquire(LOGIN), session);
  await new Promise((resolve) => setTimeout(resolve, 60));
  assertEquals(session.state.kind, "idle");
  sessions.release(session);
  await until(() => session.state.kind === "closed");
  assertEquals(sessions.all(), []);
  assert(sessions.acquire(LOGIN) !== session);
  await sessions.closeAll();
});

Deno.test("ClusterSessions.release() throws when a session is given back once too often", async () => {
  const sessions = makeSessions(1_000);
  const session = sessions.acquire(LOGIN);
  sessions.release(session);
  assertThrows(() => sessions.release(session), Error, "not in use");
  await sessions.closeAll();
  sessions.release(session);
});
