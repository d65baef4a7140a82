import { assert, assertEquals, assertRejects } from "@std/assert";
import net from "node:net";
import { connectByUnixStream, UnixStream } from "./unix_stream.ts";

async function withSocket(use: (path: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "multicri-unix-" });
  try {
    await use(`${directory}/s.sock`);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** The two ends of a connection. */
async function connected(path: string): Promise<{ near: UnixStream; far: UnixStream }> {
  using listener = Deno.listen({ transport: "unix", path });
  const accepted = listener.accept();
  const near = await new Promise<UnixStream>((resolve) => {
    const stream = new UnixStream().connect(path, () => resolve(stream));
  });
  return { near, far: new UnixStream(await accepted) };
}

const closed = (stream: UnixStream) =>
  new Promise<void>((resolve) => stream.closed ? resolve() : stream.once("close", resolve));

Deno.test("UnixStream carries every byte both ways, and both ends close when one does", () =>
  withSocket(async (path) => {
    const { near, far } = await connected(path);
    const sent = crypto.getRandomValues(new Uint8Array(50_000));
    for (const [from, to] of [[near, far], [far, near]] as const) {
      const pieces: Uint8Array[] = [];
      const onData = (piece: Uint8Array) => pieces.push(piece);
      to.on("data", onData);
      for (let turn = 0; turn < 20; turn++) from.write(sent);
      while (pieces.reduce((sum, piece) => sum + piece.length, 0) < 20 * sent.length) {
        await new Promise((resolve) => to.once("data", resolve));
      }
      to.off("data", onData);
      const came = new Uint8Array(await new Blob(pieces as BlobPart[]).arrayBuffer());
      assert(came.every((byte, at) => byte === sent[at % sent.length]));
      assertEquals([from.bytesWritten, from.writableLength], [20 * sent.length, 0]);
    }
    near.resume().end();
    far.resume();
    await Promise.all([closed(near), closed(far)]);
  }));

Deno.test("UnixStream counts what waits for an end that does not read", () =>
  withSocket(async (path) => {
    const { near, far } = await connected(path);
    const bytes = 4 * 1024 * 1024;
    near.write(new Uint8Array(bytes));
    await new Promise((resolve) => setTimeout(resolve, 50));
    assertEquals([near.bytesWritten, near.writableLength], [bytes, bytes]);
    far.resume();
    while (near.writableLength > 0) await new Promise((resolve) => setTimeout(resolve, 5));
    assertEquals(near.bytesWritten, bytes);
    far.destroy();
    near.destroy();
    await Promise.all([closed(near), closed(far)]);
  }));

Deno.test("UnixStream closes, and ends no process, when the other end goes in the middle of a write", () =>
  withSocket(async (path) => {
    const { near, far } = await connected(path);
    near.write(new Uint8Array(4 * 1024 * 1024));
    far.destroy();
    near.resume();
    await Promise.all([closed(near), closed(far)]);
    assertEquals(
      (near.errored as Error & { code?: string } | null)?.code?.match(/EPIPE|ECONNRESET/)?.length,
      1,
    );
  }));

Deno.test("UnixStream.destroy() sends first what was written, to one that reads", () =>
  withSocket(async (path) => {
    const { near, far } = await connected(path);
    const bytes = 4 * 1024 * 1024;
    near.write(new Uint8Array(bytes));
    near.write("last");
    near.destroy();
    let came = 0;
    far.on("data", (piece: Uint8Array) => came += piece.length);
    await Promise.all([closed(near), closed(far)]);
    assertEquals(came, bytes + 4);
  }));

Deno.test("UnixStream.destroy() ends nevertheless when the other end does not read", () =>
  withSocket(async (path) => {
    const { near, far } = await connected(path);
    near.write(new Uint8Array(4 * 1024 * 1024));
    near.destroy();
    await closed(near);
    far.destroy();
    await closed(far);
  }));

Deno.test("connectByUnixStream() says in node's words why there is no connection", () =>
  withSocket(async (path) => {
    connectByUnixStream();
    const socket = net.connect({ path });
    const failure = new Promise((_, reject) => socket.once("error", reject));
    await assertRejects(() => failure, Error, `connect ENOENT ${path}`);
  }));
