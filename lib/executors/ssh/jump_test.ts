import { assertEquals } from "@std/assert";
import { loginKey } from "./login.ts";
import type { ClusterSession } from "./session.ts";
import { createLocalExecutor } from "../local.ts";
import { OpenSsh } from "./openssh.ts";
import {
  assertFails,
  namesIn,
  recordingLogger,
  startTestSession,
  type TestSession,
  until,
} from "./test_session.ts";

const ACCOUNT = { host: "127.0.0.1", user: "user", password: "right" };

/** Runs a test with a cluster, a jump host and a session to the one through the other. */
async function withJump(
  use: (session: ClusterSession, cluster: TestSession, gate: TestSession) => Promise<void>,
  changes: { forwards?: boolean; port?: number; jumpPassword?: string } = {},
): Promise<void> {
  await using cluster = await startTestSession();
  await using gate = await startTestSession({ faults: { forwards: changes.forwards ?? true } });
  const session = cluster.open({
    ...ACCOUNT,
    port: changes.port ?? cluster.server.port,
    jump: {
      ...ACCOUNT,
      port: gate.server.port,
      ...(changes.jumpPassword === undefined ? {} : { password: changes.jumpPassword }),
    },
  }, { random: () => 0 });
  await use(session, cluster, gate);
  await session.close();
}

Deno.test("ClusterSession.run() goes through the jump host, and pins both host keys", () =>
  withJump(async (session, cluster, gate) => {
    assertEquals((await session.run("exit 6")).code, 6);
    await Deno.writeFile(`${cluster.folder}/file`, new Uint8Array(100_000));
    assertEquals((await session.stat(`${cluster.folder}/file`))?.sizeBytes, 100_000);
    assertEquals([cluster.server.connections, gate.server.connections], [1, 1]);
    assertEquals([cluster.server.commands, gate.server.commands], [1, 0]);
    const pinned = await Deno.readTextFile(cluster.hostKeys.path);
    for (const { server } of [cluster, gate]) {
      assertEquals(pinned.includes(`[127.0.0.1]:${server.port} `), true);
    }
  }));

Deno.test("ClusterSession comes back when the connection to the jump host was lost", () =>
  withJump(async (session, cluster, gate) => {
    await session.run("true");
    gate.server.cutAll();
    await until(() => cluster.server.connections === 2 && session.state.kind === "ready");
    assertEquals((await session.run("exit 6")).code, 6);
  }));

Deno.test("ClusterSession.run() says so when the jump host passes no connections on", () =>
  withJump(async (session) => {
    await assertFails(
      () => session.run("true"),
      "FAILED_PRECONDITION",
      /^Cannot reach user@127[^ ]* through user@127[^ ]*: the jump host must pass connections on/,
    );
  }, { forwards: false }));

Deno.test("ClusterSession.run() says so when the jump host refuses the login", () =>
  withJump(async (session, cluster, gate) => {
    const jump = `Cannot log in to user@127.0.0.1:${gate.server.port}: `;
    const name = new RegExp(`^The jump host of user@127.0.0.1:${cluster.server.port}: ${jump}`);
    await assertFails(() => session.run("true"), "UNAUTHENTICATED", name);
    assertEquals(cluster.server.connections, 0);
  }, { jumpPassword: "wrong" }));

Deno.test("ClusterSession.send() goes through the jump host by OpenSSH, each with its own password", () =>
  withJump(async (_, cluster, gate) => {
    const openSsh = await OpenSsh.find({
      executor: createLocalExecutor(),
      secretsDirectory: `${cluster.folder}/secrets`,
      askpassPath: `${cluster.folder}/askpass`,
      knownHostsPath: cluster.hostKeys.path,
    }, recordingLogger().logger);
    gate.server.faults.authenticate = (context) => {
      if (context.method === "password" && context.password === "gate's $(id) %h") context.accept();
      else context.reject(["password"]);
    };
    const session = cluster.open({
      ...ACCOUNT,
      port: cluster.server.port,
      jump: { ...ACCOUNT, user: "gate.user", port: gate.server.port, password: "gate's $(id) %h" },
    }, { openSsh });
    await Deno.writeTextFile(`${cluster.folder}/file`, "data");
    const { signal } = new AbortController();
    const { stdout } = await session.send("cat", `${cluster.folder}/file`, signal);
    assertEquals(new TextDecoder().decode(stdout), "data");
    assertEquals([cluster.server.connections, gate.server.connections], [2, 2]);
    assertEquals(await namesIn(`${cluster.folder}/secrets`), []);
  }));

Deno.test("loginKey() tells logins through different jump hosts apart", () => {
  const login = { ...ACCOUNT, port: 22 };
  const keys = [
    login,
    { ...login, jump: { ...ACCOUNT, port: 22 } },
    { ...login, jump: { ...ACCOUNT, port: 23 } },
    { ...login, jump: { ...ACCOUNT, port: 22, password: "other" } },
  ].map(loginKey);
  assertEquals(new Set(keys).size, keys.length);
});
