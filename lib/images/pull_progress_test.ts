import { assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { CriError } from "../base/error.ts";
import { createLogger } from "../base/log.ts";
import { TestClock } from "../base/test_clock.ts";
import { type PullStep, watchPull } from "./pull_progress.ts";

const LOOK_MS = 30_000;
const LOOKS = 10;

interface Download {
  lines: string[];
  /** Adds bytes to what was downloaded. */
  arrive: (bytes: number) => Promise<void>;
  /** Lets the watch look once. */
  look: () => Promise<void>;
  watch: <T>(
    run: (signal: AbortSignal) => Promise<T>,
    options?: { signal?: AbortSignal; step?: PullStep },
  ) => Promise<T>;
}

function test(name: string, use: (download: Download) => Promise<void>): void {
  Deno.test(`watchPull() ${name}`, async () => {
    const directory = await Deno.makeTempDir({ prefix: "download-" });
    const clock = new TestClock();
    const lines: string[] = [];
    try {
      await use({
        lines,
        arrive: (bytes) =>
          Deno.writeTextFile(join(directory, "blob"), "x".repeat(bytes), { append: true }),
        look: async () => {
          await clock.sleeping(LOOK_MS);
          clock.advance(LOOK_MS);
        },
        watch: (run, { signal = new AbortController().signal, step = "Downloading" } = {}) =>
          watchPull({
            step,
            image: "perl",
            directory,
            clock,
            log: createLogger({ threshold: "info", write: (line) => lines.push(line) }),
            signal,
          }, run),
      });
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  });
}

/** As a program that runs until it is killed. */
const untilAborted = (signal: AbortSignal) =>
  new Promise<never>((_, reject) =>
    signal.addEventListener("abort", () => reject(new CriError("CANCELLED", "killed")))
  );

const STALLS: readonly [step: PullStep, words: string][] = [
  ["Downloading", "Cannot pull perl: no byte arrived for 5 minutes; try again"],
  ["Building", "Cannot pull perl: Apptainer wrote no byte of the SIF for 5 minutes."],
];
for (const [step, words] of STALLS) {
  test(`ends with a sentence when ${step} stalls`, async ({ arrive, look, watch }) => {
    await arrive(1000);
    const watched = watch(untilAborted, { step });
    const refused = assertRejects(() => watched, CriError, words);
    for (let i = 0; i <= LOOKS; i++) await look();
    assertEquals((await refused).code, "UNAVAILABLE");
  });
}

test("lets a slow download go on, and logs how far it is", async ({ lines, arrive, look, watch }) => {
  const done = Promise.withResolvers<string>();
  const watched = watch(() => done.promise);
  for (let i = 0; i < 3 * LOOKS; i++) {
    await arrive(100_000);
    await look();
  }
  done.resolve("downloaded");
  assertEquals(await watched, "downloaded");
  assertEquals(
    lines.some((line) => line.includes("perl") && line.includes("megabytes=1")),
    true,
    lines.at(-1),
  );
});

test("passes on the caller's abort and the download's own error", async ({ watch }) => {
  const abort = new AbortController();
  const watched = watch(untilAborted, { signal: abort.signal });
  abort.abort(new Error("client went"));
  assertEquals((await assertRejects(() => watched, CriError, "killed")).code, "CANCELLED");
  await assertRejects(() => watch(() => Promise.reject(new Error("no route"))), Error, "no route");
});
