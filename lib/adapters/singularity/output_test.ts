import { assertEquals } from "@std/assert";
import { TestClock } from "../../base/test_clock.ts";
import { ContainerLog } from "../../logs/container_log.ts";
import type { LogStream } from "../../logs/turns.ts";
import { withDiskFault } from "../../store/test_failing_disk.ts";
import { TestStore } from "../../store/test_store.ts";
import { Output } from "./output.ts";

/** What a supervisor leaves of a program's output, and the log into which it is copied. */
interface Written {
  /** Writes as the supervisor does, with the turn before the bytes. */
  write: (stream: LogStream, text: string) => Promise<void>;
  /** Adds bytes to the file of the turns. */
  writeTurns: (bytes: Uint8Array) => Promise<void>;
  /** Another server, to which the log takes at most so many bytes. */
  restart: (maxLogBytes?: number) => Promise<void>;
  copy: (final?: boolean) => Promise<void>;
  output: () => Output;
  /** The log's lines without their times. */
  lines: () => Promise<string[]>;
}

async function withOutput(use: (written: Written) => Promise<void>): Promise<void> {
  await using records = await TestStore.open();
  const files = records.path("c1");
  const logPath = records.path("main.log");
  const open = (maxBytes?: number) =>
    new ContainerLog("c1", logPath, records.store.logPositions, new TestClock(), maxBytes);
  const append = (kind: string, bytes: Uint8Array) =>
    Deno.writeFile(`${files}.${kind}`, bytes, { append: true });
  const lengths = { stdout: 0, stderr: 0 };
  let turn: LogStream = "stdout";
  let log = open();
  let output = new Output(files, log);
  await log.prepare();
  try {
    await use({
      write: async (stream, text) => {
        if (stream !== turn) {
          const bytes = new Uint8Array(16);
          bytes[0] = (turn === "stdout" ? "o" : "e").charCodeAt(0);
          new DataView(bytes.buffer).setBigUint64(8, BigInt(lengths[turn]), true);
          await append("turns", bytes);
          turn = stream;
        }
        await append(stream, new TextEncoder().encode(text));
        lengths[stream] += text.length;
      },
      writeTurns: (bytes) => append("turns", bytes),
      restart: async (maxLogBytes) => {
        await log.close();
        log = open(maxLogBytes);
        await log.prepare();
        output = new Output(files, log);
      },
      copy: (final = false) => output.copy(final),
      output: () => output,
      lines: async () =>
        (await Deno.readTextFile(logPath)).split("\n").slice(0, -1)
          .map((line) => line.split(" ").slice(1).join(" ")),
    });
  } finally {
    await log.close();
  }
}

Deno.test("Output.copy() copies what is new, whole lines first, the rest at the end, and no more than the log takes", () =>
  withOutput(async ({ write, copy, restart, lines }) => {
    await copy();
    await write("stdout", "one\ntw");
    await copy();
    assertEquals(await lines(), ["stdout F one"]);
    await restart();
    await write("stdout", "o\nthree");
    await copy();
    assertEquals(await lines(), ["stdout F one", "stdout F two"]);
    await copy(true);
    assertEquals((await lines()).at(-1), "stdout F three");
    await restart(1);
    await write("stdout", "\nfour\n");
    await copy(true);
    assertEquals((await lines()).length, 3);
  }));

Deno.test("Output.copy() keeps the order of lines on both streams, by their ends", () =>
  withOutput(async ({ write, copy, lines }) => {
    await write("stderr", "+ echo a\n");
    await write("stdout", "a\nasked: ");
    await write("stderr", "+ echo b\n");
    await write("stdout", "b\n");
    await write("stderr", "last");
    await copy();
    await copy(true);
    assertEquals(await lines(), [
      "stderr F + echo a",
      "stdout F a",
      "stderr F + echo b",
      "stdout F asked: b",
      "stderr F last",
    ]);
  }));

Deno.test("Output.copy() keeps the order of what is written while it looks", () =>
  withOutput(async ({ write, copy, lines }) => {
    await write("stdout", "out1\n");
    const stat = Deno.stat;
    let looks = 0;
    Deno.stat = async (path) => {
      const info = await stat(path);
      if (++looks === 1) {
        await write("stdout", "out2\n");
        await write("stderr", "err1\n");
        await write("stdout", "out3\n");
      }
      return info;
    };
    try {
      await copy();
    } finally {
      Deno.stat = stat;
    }
    assertEquals(await lines(), [
      "stdout F out1",
      "stdout F out2",
      "stderr F err1",
      "stdout F out3",
    ]);
  }));

Deno.test("Output.copy() copies all when turns are lost, torn, or their room was given back", () =>
  withOutput(async ({ write, writeTurns, copy, restart, output, lines }) => {
    // More than is read at once.
    await writeTurns(new Uint8Array(1024 * 1024 + 16));
    await write("stderr", "one\n");
    await copy(true);
    assertEquals(output().copiedBytes("turns"), 1024 * 1024 + 32);
    await writeTurns(new TextEncoder().encode("odd"));
    await write("stdout", "two\n");
    await write("stderr", "three\n");
    await writeTurns(new Uint8Array(2 * 1024 * 1024));
    await restart();
    await copy(true);
    assertEquals((await lines()).sort(), ["stderr F one", "stderr F three", "stdout F two"]);
  }));

Deno.test("Output.copiedBytes() counts only what another server will not ask for", () =>
  withOutput(async ({ write, copy, output }) => {
    const copied = () =>
      (["stdout", "stderr", "turns"] as const).map(output().copiedBytes, output());
    await write("stdout", "one\n");
    await copy();
    await withDiskFault("full", async () => {
      await write("stderr", "two\n");
      await write("stdout", "three\n");
      await copy();
      await copy();
      assertEquals(copied(), [4, 0, 0]);
    });
    assertEquals(copied(), [10, 4, 16]);
  }));

Deno.test("Output.copy() loses, doubles and moves nothing when output comes in random pieces", async () => {
  const seed = crypto.getRandomValues(new Uint32Array(1))[0] ?? 1;
  let state = seed;
  const random = (below: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor(state / 2 ** 32 * below);
  };
  await withOutput(async ({ write, copy, restart, lines }) => {
    const unfinished = { stdout: "", stderr: "" };
    const wanted: string[] = [];
    for (let step = 0; step < 300; step++) {
      const stream = random(2) === 0 ? "stdout" : "stderr";
      const text = `${step}${"x".repeat(random(30) === 0 ? 10_000 : random(20))}`;
      const isWhole = random(3) > 0;
      await write(stream, isWhole ? `${text}\n` : text);
      unfinished[stream] += text;
      if (isWhole) {
        wanted.push(`${stream} ${unfinished[stream]}`);
        unfinished[stream] = "";
      }
      if (random(10) === 0) await copy();
      if (random(40) === 0) await restart();
    }
    await copy(true);
    for (const stream of ["stdout", "stderr"] as const) {
      if (unfinished[stream] !== "") wanted.push(`${stream} ${unfinished[stream]}`);
    }
    const partial = { stdout: "", stderr: "" };
    const found: string[] = [];
    for (const line of await lines()) {
      const [, stream, tag, text = ""] = /^(stdout|stderr) ([FP]) (.*)$/.exec(line) ?? [];
      if (stream !== "stdout" && stream !== "stderr") throw new Error(`no line of a log: ${line}`);
      partial[stream] += text;
      if (tag === "P") continue;
      found.push(`${stream} ${partial[stream]}`);
      partial[stream] = "";
    }
    assertEquals(found, wanted, `seed ${seed}`);
  });
});
