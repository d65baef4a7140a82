import { assertEquals } from "@std/assert";
import { createLogger } from "../../base/log.ts";
import { TestClock } from "../../base/test_clock.ts";
import { createLocalExecutor } from "../../executors/local.ts";
import { ContainerLog } from "../../logs/container_log.ts";
import { ROTATION_WAIT_MS } from "../../logs/full_log.ts";
import type { ContainerEnd } from "../../store/container_state.ts";
import { TestStore } from "../../store/test_store.ts";
import { Node } from "./node.ts";
import { RunningContainer } from "./running_container.ts";

interface Setting {
  /** A name in the test's directory. */
  logName?: string;
  maxLogBytes?: number;
  isSupervised?: boolean;
  hasProgram?: boolean;
}

interface Followed {
  clock: TestClock;
  container: RunningContainer;
  records: TestStore;
  files: string;
  notes: string[];
  /** What the server's log says. */
  said: () => string[];
  /** Resolves when the next look is over; with the end that was told, if one was. */
  look: () => Promise<ContainerEnd | undefined>;
  /** Lets time pass until the next look. */
  pass: (ms?: number) => Promise<void>;
}

/** Follows a container whose files a test writes. */
async function following(
  { logName, maxLogBytes, isSupervised = true, hasProgram = true }: Setting,
  use: (followed: Followed) => Promise<void>,
): Promise<void> {
  await using records = await TestStore.open();
  const clock = new TestClock();
  const files = records.path("c1");
  await Deno.writeTextFile(`${files}.stdout`, "");
  using supervisor = await Deno.open(`${files}.stdout`, { append: true });
  if (isSupervised) await supervisor.lock(true);
  const ended = Promise.withResolvers<ContainerEnd>();
  const notes: string[] = [];
  const lines: string[] = [];
  const said = () => lines.map((line) => line.replace(/^.*? WARNING (.*?) container=.*$/s, "$1"));
  const logPath = logName === undefined ? "" : records.path(logName);
  const container = new RunningContainer(
    "c1",
    files,
    new ContainerLog("c1", logPath, records.store.logPositions, clock, maxLogBytes),
    new Node(createLocalExecutor()),
    clock,
    createLogger({ threshold: "warning", write: (line) => lines.push(line) }),
    {
      isRunning: () => Promise.resolve(hasProgram),
      kill: () => Promise.resolve(void (hasProgram = false)),
    },
    (message) => Promise.resolve(void notes.push(message)),
    ended.resolve,
  );
  const pass = async (ms = 2_000) => {
    await clock.sleeping(2_000);
    clock.advance(ms);
    await clock.sleeping(10);
    clock.advance(10);
  };
  const look = async () => await Promise.race([ended.promise, clock.sleeping(2_000)]) ?? undefined;
  container.follow();
  try {
    await use({ clock, container, records, files, notes, said, look, pass });
  } finally {
    await container.close();
  }
}

const UNSEEN: [
  what: string,
  isSupervised: boolean,
  hasProgram: boolean,
  code: number | undefined,
][] = [
  [
    "tells an end that nobody saw when its supervisor is gone and its program too",
    false,
    false,
    255,
  ],
  ["kills its program when its supervisor is gone", false, true, 137],
  ["waits for its supervisor when its program is gone", true, false, undefined],
];

for (const [what, isSupervised, hasProgram, code] of UNSEEN) {
  Deno.test(`RunningContainer ${what}`, () =>
    following({ isSupervised, hasProgram }, async ({ look, pass }) => {
      await pass();
      if (code === 137) {
        assertEquals(await look(), undefined);
        await pass();
      }
      assertEquals((await look())?.exitCode, code);
    }));
}

Deno.test("RunningContainer tells the end of one whose log cannot be written", () =>
  following({ logName: "no-folder/c1.log" }, async ({ files, records, look, pass }) => {
    await Deno.writeTextFile(records.path("no-folder"), "");
    await Deno.writeTextFile(`${files}.stdout`, "a line\n", { append: true });
    await pass();
    assertEquals(await look(), undefined);
    await Deno.writeTextFile(`${files}.exit`, "3 0");
    await pass();
    assertEquals((await look())?.exitCode, 3);
  }));

Deno.test("RunningContainer copies what is left when a log can be written after the end", () =>
  following(
    { logName: "folder/c1.log" },
    async ({ clock, container, files, records, look, pass, said }) => {
      await Deno.writeTextFile(records.path("folder"), "");
      await Deno.writeTextFile(`${files}.stdout`, "one\ntwo", { append: true });
      await Deno.writeTextFile(`${files}.exit`, "3 0");
      await pass();
      assertEquals((await look())?.exitCode, 3);
      assertEquals(container.hasEnded, true);
      await Deno.remove(records.path("folder"));
      // It looks again at once when it has told the end.
      await clock.sleeping(10);
      clock.advance(10);
      await pass();
      await container.follow();
      const text = await Deno.readTextFile(records.path("folder/c1.log"));
      assertEquals(text.match(/(one|two)$/gm), ["one", "two"]);
      assertEquals(said(), [
        "Cannot copy a container's output into its log; it is kept and tried again",
        "A container's output is copied into its log again, and nothing is missing",
      ]);
    },
  ));

Deno.test("RunningContainer.giveUp() says what is lost when a log could not be written", () =>
  following(
    { logName: "folder/c1.log" },
    async ({ container, files, records, look, pass, said }) => {
      await Deno.writeTextFile(records.path("folder"), "");
      await Deno.writeTextFile(`${files}.stdout`, "one\n", { append: true });
      await Deno.writeTextFile(`${files}.exit`, "3 0");
      await pass();
      await look();
      await container.giveUp();
      assertEquals(said().slice(1), ["Output is lost that a container's log could not take"]);
    },
  ));

Deno.test("RunningContainer tells an end when a full log was rotated and the rest of it was copied", () =>
  following(
    { logName: "c1.log", maxLogBytes: 10 },
    async ({ container, files, records, look, pass }) => {
      await Deno.writeTextFile(`${files}.stdout`, "one\ntwo\n", { append: true });
      await pass();
      assertEquals(await look(), undefined);
      await Deno.writeTextFile(`${files}.stdout`, "three\n", { append: true });
      await Deno.writeTextFile(`${files}.exit`, "0 0");
      await pass();
      assertEquals(await look(), undefined);
      const path = records.path("c1.log");
      await Deno.rename(path, `${path}.1`);
      await container.log.reopen();
      await pass();
      assertEquals((await look())?.reason, "Completed");
      const texts = [await Deno.readTextFile(`${path}.1`), await Deno.readTextFile(path)];
      assertEquals(texts.join("").match(/(one|two|three)$/gm), ["one", "two", "three"]);
    },
  ));

Deno.test("RunningContainer tells an end and what is left out when nobody rotates a full log", () =>
  following({ logName: "c1.log", maxLogBytes: 10 }, async ({ files, notes, look, pass }) => {
    await Deno.writeTextFile(`${files}.stdout`, "one\ntwo\n", { append: true });
    await pass();
    assertEquals(await look(), undefined);
    await Deno.writeTextFile(`${files}.stdout`, "three\n", { append: true });
    await Deno.writeTextFile(`${files}.exit`, "0 0");
    await pass();
    assertEquals(await look(), undefined);
    await pass(ROTATION_WAIT_MS);
    assertEquals((await look())?.reason, "Completed");
    assertEquals(notes.slice(-1), [
      "the log is full and nobody rotates it: 6 bytes of stdout and 0 of stderr are left out",
    ]);
  }));
