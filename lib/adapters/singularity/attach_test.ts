import { assertEquals, assertRejects } from "@std/assert";
import { TestClock } from "../../base/test_clock.ts";
import { ContainerLog } from "../../logs/container_log.ts";
import { createLogger } from "../../base/log.ts";
import { createLocalExecutor } from "../../executors/local.ts";
import { TestStore } from "../../store/test_store.ts";
import { ByteQueue } from "../../streaming/byte_queue.ts";
import { inputFrame } from "../steps/frames.ts";
import { attach } from "./attach.ts";
import { Node } from "./node.ts";
import { RunningContainer } from "./running_container.ts";

async function* nothing<T>(): AsyncGenerator<T> {}

/** A container whose files begin with its id. */
function running(records: TestStore, clock: TestClock): RunningContainer {
  const log = new ContainerLog("c1", "", records.store.logPositions, clock);
  return new RunningContainer(
    "c1",
    records.path("c1"),
    log,
    new Node(createLocalExecutor()),
    clock,
    createLogger({ threshold: "error", write: () => {} }),
    { isRunning: () => Promise.resolve(true), kill: () => Promise.resolve() },
    () => Promise.resolve(),
    () => {},
  );
}

for (const hasPipe of [true, false]) {
  Deno.test(`attach() passes output and the end on when its pipe for input ${hasPipe ? "has no reader" : "is gone"}`, async () => {
    await using records = await TestStore.open();
    const clock = new TestClock();
    const files = records.path("c1");
    const inputPath = records.path("input");
    if (hasPipe) await new Deno.Command("mkfifo", { args: [inputPath] }).output();
    await Deno.writeTextFile(`${files}.stdout`, "before\n");
    const container = running(records, clock);
    let looks = 0;
    const hasEnded = () => {
      looks++;
      if (looks === 2) Deno.writeTextFileSync(`${files}.stdout`, "after\n", { append: true });
      queueMicrotask(() => container.touch());
      return looks > 10;
    };
    let output = "";
    const streams = {
      stdin: nothing<Uint8Array>(),
      stdout: (piece: Uint8Array) => {
        output += new TextDecoder().decode(piece);
        return Promise.resolve();
      },
      stderr: () => Promise.resolve(),
      resizes: nothing<{ width: number; height: number }>(),
    };
    const { signal } = new AbortController();
    const config = { stdin: true, stdinOnce: true, tty: false };
    const input = { path: inputPath, config, wanted: true };
    assertEquals(await attach({ container, input, hasEnded }, clock, streams, signal), 0);
    assertEquals(output, "after\n");
    await container.close();
  });
}

Deno.test("attach() ends a program's input when its client takes no output any more", async () => {
  await using records = await TestStore.open();
  const clock = new TestClock();
  const path = records.path("input");
  await new Deno.Command("mkfifo", { args: [path] }).output();
  using pipe = await Deno.open(path, { read: true, write: true });
  await Deno.writeTextFile(records.path("c1.stdout"), "");
  const container = running(records, clock);
  const hasEnded = () => {
    Deno.writeTextFileSync(records.path("c1.stdout"), "answer\n");
    queueMicrotask(() => container.touch());
    return false;
  };
  const refuse = () => Promise.reject(new Error("The client is gone."));
  const stdin = new ByteQueue(1);
  const streams = { stdin, resizes: nothing<never>(), stdout: refuse, stderr: refuse };
  const config = { stdin: true, stdinOnce: true, tty: false };
  const attached = { container, input: { path, config, wanted: true }, hasEnded };
  const { signal } = new AbortController();
  await assertRejects(() => attach(attached, clock, streams, signal), Error, "is gone");
  const frame = new Uint8Array(16);
  const length = await pipe.read(frame);
  assertEquals(frame.subarray(0, length ?? 0), inputFrame("e", new Uint8Array()));
  await container.close();
});
