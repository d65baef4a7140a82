import { assert, assertEquals, assertStringIncludes } from "@std/assert";
// @ts-types="@types/ssh2"
import type { Connection as ServerConnection } from "ssh2";
import { makeHostKey, startTestServer } from "./test_server.ts";
import { assertFails, startTestSession } from "./test_session.ts";

Deno.test("ClusterSession.run() trusts a host's first key and no other when it changes", async () => {
  await using test = await startTestSession();
  await test.session.run("true");
  assert(
    test.lines.some((line) => line.includes("Recorded the host key") && line.includes("SHA256:")),
  );
  const { port } = test.server;
  await test.session.close();
  await test.server[Symbol.asyncDispose]();
  await using changed = await startTestServer({ port });
  const session = test.open(loginTo(port));
  const error = await assertFails(
    () => session.run("true"),
    "FAILED_PRECONDITION",
    /host key must be ssh-ed25519 SHA256:\S+, recorded at \S+known_hosts:1: the server shows ssh-ed25519 SHA256:/,
  );
  const fingerprints = error.message.match(/SHA256:[A-Za-z0-9+/]{43}/g) ?? [];
  assertEquals(new Set(fingerprints).size, 2);
  assertEquals(session.state.kind, "refused");
  assertEquals(changed.commands, 0);
  // The administrator deletes the line.
  await Deno.writeTextFile(test.hostKeys.path, "");
  await session.connect();
  assertStringIncludes(
    await Deno.readTextFile(test.hostKeys.path),
    `[127.0.0.1]:${port} ssh-ed25519`,
  );
});

Deno.test("ClusterSession.run() asks for the recorded kind of key when a host has several", async () => {
  const [first, second] = [makeHostKey("ecdsa"), makeHostKey("ed25519")];
  await using test = await startTestSession({ hostKeys: [first] });
  await test.session.run("true");
  const { port } = test.server;
  await test.session.close();
  await test.server[Symbol.asyncDispose]();
  await using _server = await startTestServer({ port, hostKeys: [second, first] });
  const session = test.open(loginTo(port));
  assertEquals((await session.run("exit 8")).code, 8);
  assertEquals((await Deno.readTextFile(test.hostKeys.path)).trim().split("\n").length, 1);
});

Deno.test("ClusterSession goes on when the server asks for new session keys", async () => {
  let connection: ServerConnection | undefined;
  let stats = 0;
  await using test = await startTestSession({
    faults: {
      onCommand: (_channel, of) => {
        connection = of;
        return false;
      },
      onSftp: () => {
        if (++stats % 50 === 0) connection?.rekey();
        return "serve";
      },
    },
  });
  await test.session.run("true");
  const outcomes: Promise<string>[] = [];
  for (let call = 0; call < 1_000; call++) {
    outcomes.push(test.session.stat("/").then(() => "answered", (error) => error.message));
    // Without waiting for answers: requests must go out in the middle of an exchange, too.
    if (call % 3 === 0) await new Promise((resolve) => setTimeout(resolve, 0));
  }
  assertEquals(new Set(await Promise.all(outcomes)), new Set(["answered"]));
  assertEquals(test.server.connections, 1);
});

function loginTo(port: number) {
  return { host: "127.0.0.1", port, user: "user", password: "right" };
}
