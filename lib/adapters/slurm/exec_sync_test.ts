/** When a command is refused, waits or is tried again; the cluster's side is played. */
import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { CriError } from "../../base/error.ts";
import { TestClock } from "../../base/test_clock.ts";
import type { ScriptOptions } from "../../executors/ssh/session.ts";
import type { Store } from "../../store/store.ts";
import { containerRecord, imageRecord, TestStore } from "../../store/test_store.ts";
import type { ActiveContainers } from "./active.ts";
import { execSync } from "./exec_sync.ts";
import { ExecTurns } from "./exec_turns.ts";
import { StreamLines } from "./stream_lines.ts";
import type { SlurmWorkload } from "./workload.ts";

const NEVER = new AbortController().signal;
const PENDING: SlurmWorkload = { account: "u@h:22", jobId: "17", directory: "/d" };
const RUNNING: SlurmWorkload = { ...PENDING, job: { host: "n1", startedAtMs: 0 } };
const frame = (letter: string, words = "") =>
  `${letter}\0\0\0${String.fromCharCode(words.length)}${words}\n`;

/** What each try of a command brings: frames, or the session's error. */
type Try = string | CriError;
const FINE: Try = frame("s") + frame("x", "0");
const STARTING: Try = frame("f", "starting not yet");
const AWAY = new CriError("UNAVAILABLE", "Lost the connection");

class Place {
  readonly clock = new TestClock();
  tries = 0;

  constructor(readonly store: Store, readonly outcomes: Try[]) {}

  static async with(
    workload: SlurmWorkload,
    outcomes: Try[],
    use: (place: Place) => Promise<void>,
  ): Promise<void> {
    await using records = await TestStore.open();
    const { store } = records;
    store.images.put(imageRecord());
    store.containers.put(
      containerRecord({ state: { phase: "running", startedAtMs: 1 }, workload }),
    );
    await use(new Place(store, outcomes));
  }

  async exec(timeoutMs: number, signal = NEVER): Promise<number> {
    const active = { of: () => Promise.resolve({ account: this.#account }) };
    const { store, clock } = this;
    return (await execSync(
      active as unknown as ActiveContainers,
      store,
      clock,
      "c1",
      ["x"],
      timeoutMs,
      signal,
    )).exitCode;
  }

  readonly #run = async (_script: string, options: ScriptOptions) => {
    const stdin = (options.stdin as AsyncIterable<Uint8Array>)[Symbol.asyncIterator]();
    await stdin.next();
    const request = new TextDecoder().decode((await stdin.next()).value as Uint8Array);
    const outcome = this.outcomes[Math.min(this.tries++, this.outcomes.length - 1)] ?? "";
    if (outcome instanceof CriError) throw outcome;
    const nonce = /\n([0-9a-f]{32})\0/.exec(request)?.[1];
    options.onStdout?.(new TextEncoder().encode(nonce + outcome));
    return { code: 0, stdout: new Uint8Array(), stderr: new Uint8Array() };
  };

  readonly #account = {
    name: "u@h:22",
    execTurns: new ExecTurns(),
    lines: new StreamLines(() => ({ run: this.#run }) as never, () => {}),
  };
}

const REFUSALS: { when: string; workload: SlurmWorkload; says: RegExp }[] = [
  { when: "its job is being submitted", workload: { account: "a" }, says: /is being submitted/ },
  { when: "its job waits", workload: PENDING, says: /its job 17 waits\./ },
  {
    when: "it is known why its job waits",
    workload: { ...PENDING, pending: { reason: "Priority", expectedStart: "", priority: "1" } },
    says: /its job 17 waits: Priority\./,
  },
];
for (const { when, workload, says } of REFUSALS) {
  Deno.test(`execSync() refuses a probe with UNAVAILABLE when ${when}`, () =>
    Place.with(workload, [], async (place) => {
      const error = await assertRejects(() => place.exec(1000), CriError);
      assertEquals(error.code, "UNAVAILABLE");
      assertMatch(error.message, says);
    }));
}

Deno.test("execSync() waits without a time limit until the job runs", () =>
  Place.with(PENDING, [FINE], async (place) => {
    const running = place.exec(0);
    place.store.containers.update("c1", (record) => ({ ...record, workload: RUNNING }));
    assertEquals([await running, place.tries], [0, 1]);
  }));

Deno.test("execSync() stops waiting for the job when the call is cancelled or the container ends", () =>
  Place.with(PENDING, [], async (place) => {
    const abort = new AbortController();
    const cancelled = place.exec(0, abort.signal).catch((error) => error);
    const ended = place.exec(0).catch((error) => error);
    const reason = new DOMException("gone", "AbortError");
    abort.abort(reason);
    assertEquals(await cancelled, reason);
    const end = { finishedAtMs: 2, exitCode: 0, reason: "", message: "", startedAtMs: 1 };
    place.store.containers.update("c1", (r) => ({ ...r, state: { phase: "exited", ...end } }));
    assertEquals((await ended).code, "FAILED_PRECONDITION");
  }));

for (
  const [name, outcome] of [["the program is not there yet", STARTING], [
    "the cluster is away",
    AWAY,
  ]] as const
) {
  Deno.test(`execSync() refuses a probe, and tries a hook again, when ${name}`, () =>
    Place.with(RUNNING, [outcome, outcome, outcome, FINE], async (place) => {
      const error = await assertRejects(() => place.exec(1000), CriError);
      assertEquals([error.code, place.tries], ["UNAVAILABLE", 1]);
      const hook = place.exec(0);
      for (let pause = 0; pause < 2; pause++) {
        await place.clock.sleeping(1000);
        place.clock.advance(1000);
      }
      assertEquals([await hook, place.tries], [0, 4]);
    }));
}

Deno.test("execSync() gives a hook up when the cluster is away for a minute", () =>
  Place.with(RUNNING, [AWAY], async (place) => {
    const hook = place.exec(0).catch((error) => error);
    for (let second = 0; second < 60; second++) {
      await place.clock.sleeping(1000);
      place.clock.advance(1000);
    }
    assertEquals((await hook).code, "UNAVAILABLE");
    assertEquals(place.tries, 61);
  }));

Deno.test("execSync() never runs a hook twice when its end was not seen", () =>
  Place.with(RUNNING, [frame("s"), FINE], async (place) => {
    const error = await assertRejects(() => place.exec(0), CriError);
    assertEquals([error.code, place.tries], ["UNKNOWN", 1]);
  }));

const NOT_CONSIDERED = { reason: "None", expectedStart: "", priority: "1" };
for (
  const [when, pending] of [
    ["it was just submitted", {}],
    ["Slurm has not looked at it", { pending: NOT_CONSIDERED }],
  ] as const
) {
  Deno.test(`execSync() gives a job a moment to begin when ${when}`, () =>
    Place.with(
      { ...PENDING, ...pending, submittedAtMs: new TestClock().now() },
      [FINE],
      async (place) => {
        const answer = place.exec(1_000);
        place.store.containers.update("c1", (record) => ({ ...record, workload: RUNNING }));
        assertEquals(await answer, 0);
      },
    ));
}

Deno.test("execSync() refuses a probe at once when Slurm says why a fresh job waits", () =>
  Place.with(
    {
      ...PENDING,
      pending: { ...NOT_CONSIDERED, reason: "Resources" },
      submittedAtMs: new TestClock().now(),
    },
    [],
    async (place) => {
      assertEquals((await assertRejects(() => place.exec(1000), CriError)).code, "UNAVAILABLE");
    },
  ));
