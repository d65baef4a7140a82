import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { TestClock } from "../../base/test_clock.ts";
import { ByteQueue } from "../../streaming/byte_queue.ts";
import { TerminalSizes } from "../../streaming/terminal_sizes.ts";
import { inputFrame } from "../steps/frames.ts";
import { passInput } from "./program_input.ts";

/** What a pipe takes that nobody reads (pipe(7)). */
const PIPE_BYTES = 65_536;
const CUT_WAIT_MS = 5_000;

const encode = (text: string) => new TextEncoder().encode(text);

/** A pipe as a supervisor holds it. */
class TestPipe implements AsyncDisposable {
  private constructor(readonly folder: string, readonly path: string, readonly file: Deno.FsFile) {}

  static async make(): Promise<TestPipe> {
    const folder = await Deno.makeTempDir();
    const path = join(folder, "input");
    await new Deno.Command("mkfifo", { args: [path] }).output();
    return new TestPipe(folder, path, await Deno.open(path, { read: true, write: true }));
  }

  async readBytes(count: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(count);
    for (let at = 0; at < count;) at += await this.file.read(bytes.subarray(at)) ?? count;
    return bytes;
  }

  /** The next frame, as its letter and its bytes. */
  async frame(): Promise<string> {
    const header = await this.readBytes(5);
    const length = new DataView(header.buffer).getUint32(1);
    return String.fromCharCode(header[0] ?? 0) +
      (length === 0 ? "" : ` ${new TextDecoder().decode(await this.readBytes(length))}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.file.close();
    await Deno.remove(this.folder, { recursive: true });
  }
}

const PIPED = { stdin: true, stdinOnce: false, tty: false };
const PIPED_ONCE = { ...PIPED, stdinOnce: true };
const TERMINAL_ONCE = { ...PIPED_ONCE, tty: true };
const ends = (stdin: ByteQueue) => stdin.end();
/** As when its stream is reset. */
const breaks = (stdin: ByteQueue) => stdin.fail(new Error("It was reset."));
/** As when its connection is cut. */
const goes = (stdin: ByteQueue, gone: AbortController) => {
  breaks(stdin);
  gone.abort();
};

for (
  const [what, config, end, frames, leaves] of [
    ["leaves with a client's end", PIPED, ends, [], true],
    ["leaves with a broken stream", PIPED, breaks, [], true],
    ["ends stdin with stdinOnce", PIPED_ONCE, ends, ["e"], false],
    ["ends stdin with stdinOnce and a broken stream", PIPED_ONCE, breaks, ["e"], false],
    ["ends stdin with stdinOnce when the client is cut off", PIPED_ONCE, goes, ["e"], false],
    ["ends the input of a terminal with stdinOnce", TERMINAL_ONCE, ends, ["e"], false],
    ["lets a terminal alone when the client is cut off", TERMINAL_ONCE, goes, [], false],
  ] as const
) {
  Deno.test(`passInput() passes input on and ${what}`, async () => {
    await using pipe = await TestPipe.make();
    const [gone, over, left] = [
      new AbortController(),
      new AbortController(),
      Promise.withResolvers<void>(),
    ];
    const [stdin, resizes] = [new ByteQueue(1024), new TerminalSizes()];
    let hasLeft = false;
    const onLeave = () => {
      hasLeft = true;
      left.resolve();
    };
    const passed = passInput(
      {
        path: pipe.path,
        config,
        wanted: true,
        streams: { stdin, resizes },
        onLeave,
        clock: new TestClock(),
      },
      gone.signal,
      over.signal,
    );
    await stdin.push(encode("one"));
    assertEquals(await pipe.frame(), "i one");
    end(stdin, gone);
    for (const frame of frames) assertEquals(await pipe.frame(), frame);
    if (leaves) await left.promise;
    // By itself when the client is gone.
    if (!gone.signal.aborted) over.abort();
    await passed;
    resizes.end();
    await pipe.file.write(inputFrame("i", encode("last")));
    assertEquals([await pipe.frame(), hasLeft], ["i last", leaves]);
  });
}

Deno.test("passInput() ends nothing for a client that has no stdin", async () => {
  await using pipe = await TestPipe.make();
  const gone = new AbortController();
  const [stdin, resizes] = [new ByteQueue(0), new TerminalSizes()];
  stdin.end();
  const streams = { stdin, resizes };
  const onLeave = () => {
    throw new Error("It has not come for that.");
  };
  const input = { path: pipe.path, config: TERMINAL_ONCE, wanted: false, streams, onLeave };
  const { signal } = new AbortController();
  const passed = passInput({ ...input, clock: new TestClock() }, gone.signal, signal);
  resizes.add(encode('{"Width":90,"Height":30}'));
  assertEquals(await pipe.frame(), "w 90 30");
  gone.abort();
  resizes.end();
  await passed;
  await pipe.file.write(inputFrame("i", encode("last")));
  assertEquals(await pipe.frame(), "i last");
});

for (const tty of [false, true]) {
  Deno.test(`passInput() reads what a program ${tty ? "on a terminal " : ""}without stdin does not take`, async () => {
    await using pipe = await TestPipe.make();
    const [gone, over] = [new AbortController(), new AbortController()];
    const [stdin, resizes] = [new ByteQueue(1), new TerminalSizes()];
    const config = { stdin: false, stdinOnce: false, tty };
    const input = { path: pipe.path, config, wanted: true, streams: { stdin, resizes } };
    const onLeave = () => {};
    const passed = passInput(
      { ...input, onLeave, clock: new TestClock() },
      gone.signal,
      over.signal,
    );
    // Each resolves when it was read.
    await stdin.push(encode("one"));
    await stdin.push(encode("two"));
    stdin.end();
    over.abort();
    resizes.end();
    await passed;
    await pipe.file.write(inputFrame("i", encode("last")));
    assertEquals(await pipe.frame(), "i last");
  });
}

for (const reads of [true, false]) {
  Deno.test(`passInput() tells the end late, or not, to a program that ${reads ? "reads again" : "reads nothing"}`, async () => {
    await using pipe = await TestPipe.make();
    const [gone, over] = [new AbortController(), new AbortController()];
    const [stdin, resizes] = [new ByteQueue(1024), new TerminalSizes()];
    const clock = new TestClock();
    await pipe.file.write(new Uint8Array(PIPE_BYTES));
    const input = {
      path: pipe.path,
      config: PIPED_ONCE,
      wanted: true,
      streams: { stdin, resizes },
    };
    const onLeave = () => {};
    const passed = passInput({ ...input, onLeave, clock }, gone.signal, over.signal);
    resizes.end();
    goes(stdin, gone);
    await clock.sleeping(CUT_WAIT_MS);
    if (reads) {
      await clock.sleeping(20);
      await pipe.readBytes(PIPE_BYTES);
      clock.advance(20);
      assertEquals(await pipe.frame(), "e");
    } else {
      clock.advance(CUT_WAIT_MS);
    }
    await passed;
  });
}
