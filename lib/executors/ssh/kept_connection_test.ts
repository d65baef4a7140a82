import { assertEquals, assertRejects } from "@std/assert";
import type { Clock } from "../../base/clock.ts";
import { type CriCode, CriError } from "../../base/error.ts";
import { type Endable, KeptConnection } from "./kept_connection.ts";
import { refusalDelayMs, retryDelayMs } from "./session_state.ts";
import { recordingLogger } from "./test_session.ts";

/** Time that passes when a test says so. */
class TestClock implements Clock {
  #nowMs = 1_000_000;
  readonly #sleepers = new Set<{ untilMs: number; wake: () => void }>();

  now(): number {
    return this.#nowMs;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const sleeper = { untilMs: this.#nowMs + ms, wake: resolve };
      this.#sleepers.add(sleeper);
      signal?.addEventListener("abort", () => {
        this.#sleepers.delete(sleeper);
        reject(signal.reason);
      }, { once: true });
    });
  }

  get sleeping(): number {
    return this.#sleepers.size;
  }

  async pass(ms: number): Promise<void> {
    this.#nowMs += ms;
    for (const sleeper of this.#sleepers) {
      if (sleeper.untilMs > this.#nowMs) continue;
      this.#sleepers.delete(sleeper);
      sleeper.wake();
    }
    await settle();
  }
}

/** Lets everything happen that can happen now. */
function settle(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}

class TestConnection implements Endable {
  readonly #end = Promise.withResolvers<CriError>();
  closed = false;
  readonly ended = this.#end.promise;

  lose(): Promise<void> {
    this.#end.resolve(new CriError("UNAVAILABLE", "lost"));
    return settle();
  }

  close(): Promise<void> {
    this.closed = true;
    return Promise.resolve();
  }
}

/** A kept connection whose attempts end as `outcomes` say, one after the other; the last one for ever. */
function keep(...outcomes: (CriCode | "ok")[]) {
  const clock = new TestClock();
  const { logger, lines } = recordingLogger();
  const connections: TestConnection[] = [];
  let attempts = 0;
  const kept = new KeptConnection<TestConnection>({
    name: "cluster",
    clock,
    logger,
    random: () => 1,
    open: async () => {
      const outcome = outcomes[Math.min(attempts++, outcomes.length - 1)] ?? "ok";
      await settle();
      if (outcome !== "ok") throw new CriError(outcome, `attempt ${attempts}`);
      const connection = new TestConnection();
      connections.push(connection);
      return connection;
    },
  });
  return { kept, clock, connections, lines, attempts: () => attempts };
}

Deno.test("KeptConnection.get() makes one attempt when many call at once", async () => {
  const { kept, attempts, connections } = keep("ok");
  assertEquals(kept.state, { kind: "idle" });
  const got = await Promise.all([kept.get(), kept.get(), kept.getNow()]);
  assertEquals(new Set(got), new Set(connections));
  assertEquals(attempts(), 1);
  await kept.close();
  assertEquals(connections.map((connection) => connection.closed), [true]);
});

Deno.test("KeptConnection.get() gives the last error without an attempt when the last one just failed", async () => {
  const { kept, attempts, clock } = keep("UNAVAILABLE");
  await assertRejects(() => kept.get(), CriError, "attempt 1");
  await assertRejects(() => kept.get(), CriError, "attempt 1");
  assertEquals(attempts(), 1);
  await clock.pass(1_000);
  await assertRejects(() => kept.get(), CriError, "attempt 2");
  await assertRejects(() => kept.getNow(), CriError, "attempt 3");
  await kept.close();
});

Deno.test("KeptConnection tries by itself, ever more seldom, when the cluster cannot be reached", async () => {
  const { kept, clock, attempts } = keep("UNAVAILABLE");
  await assertRejects(() => kept.get());
  const waits: number[] = [];
  for (let count = 0; count < 8; count++) {
    const { state } = kept;
    if (state.kind !== "waiting") throw new Error(state.kind);
    assertEquals(state.attempt, count + 1);
    waits.push(state.untilMs - clock.now());
    await clock.pass(state.untilMs - clock.now());
    await settle();
  }
  assertEquals(waits, [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
  assertEquals(attempts(), 9);
  await kept.close();
  assertEquals(clock.sleeping, 0);
});

const MINUTE_MS = 60_000;

/** What a call waits for after each refusal in a row, as README's words to administrators have it. */
const REFUSALS: readonly [CriCode, waitsMs: readonly number[]][] = [
  ["UNAUTHENTICATED", [5, 10, 20, 40, 60, 60].map((minutes) => minutes * MINUTE_MS)],
  ["FAILED_PRECONDITION", [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]],
];

for (const [code, waitsMs] of REFUSALS) {
  Deno.test(`KeptConnection never tries by itself, and for a call ever more seldom, when the answer was ${code}`, async () => {
    const { kept, clock, attempts } = keep(...waitsMs.map(() => code), "ok");
    await assertRejects(() => kept.get());
    for (const [index, waitMs] of waitsMs.entries()) {
      assertEquals(kept.state.kind, "refused");
      // As a watch calls: all the time.
      for (const part of [0, waitMs / 2, waitMs / 2 - 1]) {
        await clock.pass(part);
        await assertRejects(() => kept.get(), CriError, `attempt ${index + 1}`);
      }
      assertEquals([attempts(), clock.sleeping], [index + 1, 0]);
      await clock.pass(1);
      if (index + 1 < waitsMs.length) await assertRejects(() => kept.get(), CriError);
    }
    await kept.get();
    assertEquals([kept.state.kind, attempts()], ["ready", waitsMs.length + 1]);
    await kept.close();
  });
}

Deno.test("KeptConnection.getNow() does not wait for a refusal to pass", async () => {
  const { kept } = keep("UNAUTHENTICATED", "ok");
  await assertRejects(() => kept.get());
  await kept.getNow();
  assertEquals(kept.state.kind, "ready");
  await kept.close();
});

Deno.test("KeptConnection connects at once for a caller when a connection was lost", async () => {
  const { kept, connections, attempts } = keep("ok");
  await kept.get();
  await connections[0]?.lose();
  assertEquals(kept.state.kind, "waiting");
  await kept.get();
  assertEquals([kept.state.kind, attempts()], ["ready", 2]);
  await kept.close();
});

Deno.test("KeptConnection waits longer and longer when connections are lost right after the login", async () => {
  const { kept, connections, clock } = keep("ok");
  const waits: number[] = [];
  for (let count = 0; count < 4; count++) {
    await kept.getNow();
    await connections.at(-1)?.lose();
    const { state } = kept;
    waits.push(state.kind === "waiting" ? state.untilMs - clock.now() : -1);
  }
  assertEquals(waits, [1_000, 2_000, 4_000, 8_000]);
  await assertRejects(() => kept.get(), CriError, "lost");
  await kept.getNow();
  await clock.pass(30_000);
  await connections.at(-1)?.lose();
  assertEquals(kept.state.kind === "waiting" && kept.state.attempt, 1);
  await kept.close();
});

Deno.test("KeptConnection.onStateChange() tells each change, in order, until told to stop", async () => {
  const { kept, connections, clock, lines } = keep("UNAVAILABLE", "ok");
  const kinds: string[] = [];
  kept.onStateChange(() => {
    throw new Error("a listener of no use");
  });
  const stop = kept.onStateChange((state) => kinds.push(state.kind));
  await assertRejects(() => kept.get());
  await clock.pass(1_000);
  await settle();
  await connections[0]?.lose();
  stop();
  await kept.close();
  assertEquals(kinds, ["connecting", "waiting", "connecting", "ready", "waiting"]);
  assertEquals(lines.filter((line) => line.includes("a listener of no use")).length, 6);
});

Deno.test("KeptConnection.close() closes what an attempt makes when it ends too late", async () => {
  const { kept, connections } = keep("ok");
  const got = kept.get();
  got.catch(() => {});
  await kept.close();
  await assertRejects(() => got, CriError, "it was closed");
  assertEquals(connections.map((connection) => connection.closed), [true]);
  await assertRejects(() => kept.getNow(), CriError, "it was closed");
  assertEquals(kept.state, { kind: "closed" });
});

Deno.test("retryDelayMs() is half to all of the doubled wait when random is 0 to 1", () => {
  assertEquals([retryDelayMs(1, 0), retryDelayMs(1, 1)], [500, 1_000]);
  assertEquals([retryDelayMs(4, 0), retryDelayMs(4, 1)], [4_000, 8_000]);
  assertEquals([retryDelayMs(1_000_000, 0), retryDelayMs(1_000_000, 1)], [30_000, 60_000]);
});

Deno.test("refusalDelayMs() is an hour at most when refusals never end", () => {
  assertEquals([refusalDelayMs(1), refusalDelayMs(1_000_000)], [5 * MINUTE_MS, 60 * MINUTE_MS]);
});
