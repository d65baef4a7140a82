import { assertEquals, assertMatch } from "@std/assert";
import { encodeFields } from "../steps/frames.ts";
import { PORT_PROGRAM } from "./step_programs.ts";
import { NONCE, TestStep } from "./test_step.ts";

const reach = (port: number) => new TestStep(PORT_PROGRAM, encodeFields([NONCE, port, 1]));

/** Listens once and does `serve` with the connection. */
async function withPort(
  hostname: string,
  serve: (connection: Deno.TcpConn) => Promise<void>,
  use: (port: number) => Promise<void>,
): Promise<void> {
  using listener = Deno.listen({ hostname, port: 0 });
  const served = listener.accept().then(async (connection) => {
    await serve(connection);
    connection.close();
  });
  await use((listener.addr as Deno.NetAddr).port);
  await served;
}

/** All that comes. */
async function readAll(connection: Deno.TcpConn): Promise<string> {
  let text = "";
  const buffer = new Uint8Array(65_536);
  for (let length; (length = await connection.read(buffer)) !== null;) {
    text += new TextDecoder().decode(buffer.subarray(0, length));
  }
  return text;
}

const say = (connection: Deno.TcpConn, text: string) =>
  connection.write(new TextEncoder().encode(text));

for (const hostname of ["127.0.0.1", "::1", "0.0.0.0"]) {
  Deno.test(`reach_port.pl connects both ways and half-closes when a program listens on ${hostname}`, () =>
    withPort(hostname, async (connection) => {
      const text = await readAll(connection);
      await say(connection, `got ${text}`);
    }, async (port) => {
      const step = reach(port);
      await step.tells("started");
      step.type("hello");
      step.endInput();
      await step.ended;
      assertEquals(step.output.stdout, "got hello");
      assertEquals(step.frames.at(-1), { kind: "exited", code: 0 });
    }));
}

Deno.test("reach_port.pl still takes input when the program has no more to say", () =>
  withPort("127.0.0.1", async (connection) => {
    await say(connection, "first");
    await connection.closeWrite();
    assertEquals(await readAll(connection), "later");
  }, async (port) => {
    const step = reach(port);
    await step.tells("outputEnded");
    assertEquals(step.output.stdout, "first");
    step.type("later");
    step.endInput();
    await step.ended;
  }));

Deno.test("reach_port.pl says so when nothing listens", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr as Deno.NetAddr;
  listener.close();
  const step = reach(port);
  await step.ended;
  const [refused] = step.frames;
  assertMatch(
    JSON.stringify(refused),
    /"ended".*takes connections to the port \d+: Connection refused/,
  );
});

Deno.test("reach_port.pl closes the connection when nobody waits any more", () =>
  withPort("127.0.0.1", async (connection) => {
    assertEquals(await readAll(connection), "");
  }, async (port) => {
    const step = reach(port);
    await step.tells("started");
    await step.abandon();
    assertEquals(step.frames.at(-1), { kind: "abandoned" });
  }));
