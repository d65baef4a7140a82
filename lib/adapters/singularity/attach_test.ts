import { assertEquals } from "@std/assert";
import { TestClock } from "../../base/test_clock.ts";
import { ContainerLog } from "../../logs/container_log.ts";
import { createLogger } from "../../base/log.ts";
import { createLocalExecutor } from "../../executors/local.ts";
import { TestStore } from "../../store/test_store.ts";
import { attach } from "./attach.ts";
import { Node } from "./node.ts";
import { RunningContainer } from "./running_container.ts";

async function* nothing<T>(): AsyncGenerator<T> {}

for (const hasPipe of [true, false]) {
  Deno.test(`attach() passes output and the end on when its pipe for input ${hasPipe ? "has no reader" : "is gone"}`, async () => {
    await using records = await TestStore.open();
    const clock = new TestClock();
    const files = records.path("c1");
    const inputPath = records.path("input");
    if (hasPipe) await new Deno.Command("mkfifo", { args: [inputPath] }).output();
    await Deno.writeTextFile(`${files}.stdout`, "before\n");
    const log = new ContainerLog("c1", "", records.store.logPositions, clock);
    const container = new RunningContainer(
      "c1",
      files,
      log,
      new Node(createLocalExecutor()),
      clock,
      createLogger({ threshold: "error", write: () => {} }),
      { isRunning: () => Promise.resolve(true), kill: () => Promise.resolve() },
      () => Promise.resolve(),
      () => {},
    );
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
