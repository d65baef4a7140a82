import { assertEquals } from "@std/assert";
import { chooseJobs, LOOK_INTERVAL_MS, MAX_LOOKS_AT_ONCE } from "./look_turns.ts";
import type { WatchedJob } from "./watched_job.ts";

const NOW_MS = 1_000_000_000;

function jobOf(containerId: string, known: Partial<WatchedJob>): WatchedJob {
  return { containerId, ...known } as WatchedJob;
}

function silentJobs(count: number, known: Partial<WatchedJob> = {}): WatchedJob[] {
  const lookedAtMs = NOW_MS - LOOK_INTERVAL_MS;
  return Array.from(
    { length: count },
    (_, index) => jobOf(`j${index}`, { lookedAtMs, begun: true, ...known }),
  );
}

const END = { finishedAtMs: 0, exitCode: 0, reason: "Completed", message: "" };

const ids = (jobs: WatchedJob[]) => jobs.map(({ containerId }) => containerId);

const CASES: readonly [when: string, known: Partial<WatchedJob>, chosen: boolean][] = [
  ["it was never looked at", {}, true],
  ["its interval is over", { begun: true, lookedAtMs: NOW_MS - LOOK_INTERVAL_MS }, true],
  ["its interval is not over", { begun: true, lookedAtMs: NOW_MS - LOOK_INTERVAL_MS + 6 }, false],
  ["it has not begun", { lookedAtMs: NOW_MS - LOOK_INTERVAL_MS }, false],
  ["it ended without a beginning", { lookedAtMs: NOW_MS - LOOK_INTERVAL_MS, end: END }, true],
  ["it has news", { lookedAtMs: NOW_MS - 1, hasNews: true }, true],
  ["it wrote a moment ago", { lookedAtMs: NOW_MS - 1, wroteAtMs: NOW_MS - 1 }, false],
  ["output is left", { lookedAtMs: NOW_MS - 1, copying: true }, true],
  ["the clock was set back", { begun: true, lookedAtMs: NOW_MS + 3_600_000 }, true],
];
for (const [when, known, chosen] of CASES) {
  Deno.test(`chooseJobs() ${chosen ? "takes" : "leaves"} a job when ${when}`, () => {
    assertEquals(ids(chooseJobs([jobOf("a", known)], NOW_MS)), chosen ? ["a"] : []);
  });
}

Deno.test("chooseJobs() takes all new jobs when there are more than may be looked at", () => {
  const jobs = Array.from({ length: 3 * MAX_LOOKS_AT_ONCE }, (_, index) => jobOf(`j${index}`, {}));
  assertEquals(chooseJobs([...jobs, ...silentJobs(1)], NOW_MS).length, jobs.length);
});

Deno.test("chooseJobs() prefers those that write and starves none when there are many jobs", () => {
  const jobs = silentJobs(10 * MAX_LOOKS_AT_ONCE);
  const lively = jobs.filter((_, index) => index % 20 === 0);
  const passes = 100;
  const looks = new Map<string, number>();
  for (let pass = 0; pass < passes; pass++) {
    const now = NOW_MS + pass * LOOK_INTERVAL_MS;
    const chosen = chooseJobs(jobs, now);
    assertEquals(chosen.length, MAX_LOOKS_AT_ONCE);
    for (const job of chosen) {
      looks.set(job.containerId, (looks.get(job.containerId) ?? 0) + 1);
      job.lookedAtMs = now;
      if (lively.includes(job)) job.wroteAtMs = now;
    }
  }
  const fewest = (some: WatchedJob[]) =>
    Math.min(...some.map(({ containerId }) => looks.get(containerId) ?? 0));
  const silent = jobs.filter((job) => !lively.includes(job));
  assertEquals([fewest(silent) >= 3, fewest(lively) >= passes / 4], [true, true]);
});
