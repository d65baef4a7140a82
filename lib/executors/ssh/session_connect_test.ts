import { assert, assertEquals } from "@std/assert";
// @ts-types="@types/ssh2"
import type { AuthContext } from "ssh2";
import type { CriCode } from "../../base/error.ts";
import type { HostKeys } from "./host_keys.ts";
import { ClusterSession } from "./session.ts";
import { makeHostKey, startTestServer } from "./test_server.ts";
import { startTestProxy } from "./test_proxy.ts";
import {
  assertFails,
  recordingLogger,
  startTestSession,
  type TestSessionOptions,
  until,
} from "./test_session.ts";

/** A server that asks several questions, one after the other or at once. */
function askFor(...questions: string[]): (context: AuthContext) => void {
  return (context) => {
    if (context.method !== "keyboard-interactive") return context.reject(["keyboard-interactive"]);
    context.prompt(
      questions.map((prompt) => ({ prompt, echo: false })),
      (answers) =>
        answers[0] === "right" && answers.length === 1 ? context.accept() : context.reject(),
    );
  };
}

const LOGINS: { when: string; options: TestSessionOptions }[] = [
  { when: "the password is right", options: {} },
  {
    when: "the server asks for the password interactively",
    options: { faults: { authenticate: askFor("Password: ") } },
  },
  {
    when: "the server takes the key",
    options: {
      login: { privateKey: makeHostKey() },
      faults: {
        authenticate: (context) =>
          context.method === "publickey" ? context.accept() : context.reject(["publickey"]),
      },
    },
  },
  {
    when: "the server wants the key and then the password",
    options: {
      login: { privateKey: makeHostKey() },
      faults: {
        authenticate: (() => {
          let keyAccepted = false;
          return (context: AuthContext) => {
            if (context.method === "publickey" && context.signature) keyAccepted = true;
            if (context.method === "publickey" && !context.signature) return context.accept();
            if (context.method === "password" && keyAccepted) return context.accept();
            context.reject(keyAccepted ? ["password"] : ["publickey"], keyAccepted);
          };
        })(),
      },
    },
  },
];

for (const { when, options } of LOGINS) {
  Deno.test(`ClusterSession.run() logs in when ${when}`, async () => {
    await using test = await startTestSession(options);
    assertEquals((await test.session.run("exit 5")).code, 5);
    assertEquals(test.session.state.kind, "ready");
  });
}

const REFUSALS: {
  when: string;
  options: TestSessionOptions;
  code: CriCode;
  message: RegExp;
}[] = [
  {
    when: "the password is wrong",
    options: { login: { password: "hunter2" } },
    code: "UNAUTHENTICATED",
    message:
      /^Cannot log in to user@127[^ ]*: the server refused the password \(it accepts password\)$/,
  },
  {
    when: "the password is wrong and asked for interactively",
    options: { login: { password: "hunter2" }, faults: { authenticate: askFor("Password: ") } },
    code: "UNAUTHENTICATED",
    message: /: the server refused the password /,
  },
  {
    when: "a code is asked for as well",
    options: { faults: { authenticate: askFor("Password: ", "One-time code: ") } },
    code: "UNAUTHENTICATED",
    message: /: a password or key is not enough for the server, it also asks "One-time code:"$/,
  },
  {
    when: "the server takes keys only",
    options: { faults: { authenticate: (context) => context.reject(["publickey"]) } },
    code: "UNAUTHENTICATED",
    message: /: the server takes no password or keyboard-interactive, only publickey$/,
  },
  {
    when: "the key is refused",
    options: {
      login: { privateKey: makeHostKey() },
      faults: { authenticate: (context) => context.reject(["publickey"]) },
    },
    code: "UNAUTHENTICATED",
    message: /: the server refused the private key \(it accepts publickey\)$/,
  },
];

for (const { when, options, code, message } of REFUSALS) {
  Deno.test(`ClusterSession.run() is refused, and again without asking the server, when ${when}`, async () => {
    await using test = await startTestSession(options);
    const error = await assertFails(() => test.session.run("true"), code, message);
    assert(!error.message.includes("hunter2"));
    assertEquals(test.session.state.kind, "refused");
    await assertFails(() => test.session.stat("/"), code, message);
    assertEquals(test.server.connections, 1);
    await assertFails(() => test.session.connect(), code, message);
    assertEquals(test.server.connections, 2);
  });
}

Deno.test("ClusterSession.run() sends a password once when the server offers two ways", async () => {
  let attempts = 0;
  await using test = await startTestSession({
    login: { password: "hunter2" },
    faults: {
      authenticate: (context) => {
        if (context.method !== "none") attempts++;
        context.reject(["password", "keyboard-interactive"]);
      },
    },
  });
  await assertFails(() => test.session.run("true"), "UNAUTHENTICATED", /refused/);
  assertEquals(attempts, 1);
});

Deno.test("ClusterSession.run() is refused when neither password nor key is given", async () => {
  await using test = await startTestSession();
  const session = test.open({ host: "127.0.0.1", port: test.server.port, user: "user" });
  await assertFails(
    () => session.run("true"),
    "UNAUTHENTICATED",
    /: a password or a private key must be given$/,
  );
});

Deno.test("ClusterSession constructor refuses a login when its private key is none", async () => {
  await using test = await startTestSession();
  await assertFails(
    () => Promise.resolve().then(() => test.open({ ...loginTo(1), privateKey: "secret nonsense" })),
    "INVALID_ARGUMENT",
    /^(?!.*nonsense).*-----BEGIN/,
  );
});

Deno.test("ClusterSession.run() tells the reason when the cluster cannot be reached", async (t) => {
  const closed = await startTestServer();
  const closedPort = closed.port;
  await closed[Symbol.asyncDispose]();
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const silent = listener.addr.port;
  const cases: { when: string; host: string; port: number; message: RegExp }[] = [
    {
      when: "the name is unknown",
      host: "no-such-host.invalid",
      port: 22,
      message: /^Cannot connect to user@no-such-host\.invalid:22 as the host's name must resolve/,
    },
    {
      when: "nothing listens",
      host: "127.0.0.1",
      port: closedPort,
      message: /must listen on that port: the connection was refused$/,
    },
    {
      when: "the server says nothing",
      host: "127.0.0.1",
      port: silent,
      message: /must be done within 500 ms: the server did not answer in time$/,
    },
  ];
  await using test = await startTestSession();
  for (const { when, host, port, message } of cases) {
    await t.step(when, async () => {
      const session = test.open({ ...loginTo(port), host }, { connectTimeoutMs: 500 });
      await assertFails(() => session.run("true"), "UNAVAILABLE", message);
      assertEquals(session.state.kind, "waiting");
    });
  }
});

Deno.test({
  name: "ClusterSession.run() tells which permission is missing when this server may not connect",
  permissions: { net: false },
  fn: async () => {
    const { logger } = recordingLogger();
    const hostKeys = { recordedTypes: () => Promise.resolve([]) } as unknown as HostKeys;
    const session = new ClusterSession(loginTo(1), { hostKeys, logger });
    await assertFails(
      () => session.run("true"),
      "FAILED_PRECONDITION",
      /without the permission to reach it; the administrator must name it in --allowed-clusters/,
    );
    assertEquals(session.state.kind, "refused");
    await session.close();
  },
});

Deno.test("ClusterSession.run() tells the reason when another service answers", async (t) => {
  await using test = await startTestSession();
  const services: { when: string; answer: string; message: RegExp }[] = [
    { when: "it closes at once", answer: "", message: /must answer on that port|was reset/ },
    { when: "it speaks HTTP", answer: "HTTP/1.1 400 Bad Request\r\n\r\n", message: /ssh server/ },
  ];
  for (const { when, answer, message } of services) {
    await t.step(when, async () => {
      using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
      const serving = (async () => {
        const socket = await listener.accept();
        await socket.write(new TextEncoder().encode(answer));
        socket.close();
      })();
      const session = test.open(loginTo(listener.addr.port));
      await assertFails(() => session.run("true"), "UNAVAILABLE", message);
      await serving;
    });
  }
});

Deno.test("ClusterSession.run() notices a frozen network and comes back when it thaws", async () => {
  await using test = await startTestSession();
  await using proxy = startTestProxy(test.server.port);
  const session = test.open(loginTo(proxy.port), { keepaliveIntervalMs: 50 });
  await session.run("true");
  proxy.freeze();
  await assertFails(() => session.run("true"), "UNAVAILABLE", /the server stopped answering/);
  assertEquals(session.state.kind, "waiting");
  proxy.thaw();
  await session.connect();
  assertEquals((await session.run("exit 6")).code, 6);
});

Deno.test("ClusterSession reconnects by itself when the connection was lost", async () => {
  await using test = await startTestSession({ session: { random: () => 0 } });
  const kinds: string[] = [];
  const stop = test.session.onStateChange((state) => kinds.push(state.kind));
  await test.session.connect();
  test.server.cutAll();
  await until(() => kinds.length === 5);
  assertEquals(kinds, ["connecting", "ready", "waiting", "connecting", "ready"]);
  stop();
  await test.session.close();
  assertEquals(kinds.length, 5);
});

Deno.test("ClusterSession.close() ends calls in progress and refuses later ones", async () => {
  await using test = await startTestSession();
  const running = test.session.run("sleep 60");
  running.catch(() => {});
  await until(() => test.server.commands === 1);
  await test.session.close();
  await assertFails(() => running, "UNKNOWN", /the session was closed/);
  await assertFails(() => test.session.run("true"), "UNAVAILABLE", /must be open: it was closed/);
  assertEquals(test.session.state.kind, "closed");
});

Deno.test("ClusterSession.close() ends an attempt to connect when a server says nothing", async () => {
  await using test = await startTestSession();
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const session = test.open(loginTo(listener.addr.port));
  const connecting = session.connect();
  connecting.catch(() => {});
  await session.close();
  await assertFails(() => connecting, "CANCELLED", /was cancelled/);
  assertEquals(session.state.kind, "closed");
});

function loginTo(port: number) {
  return { host: "127.0.0.1", port, user: "user", password: "right" };
}
