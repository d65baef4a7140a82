import { assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import type { Clock } from "../../base/clock.ts";
import { CriError } from "../../base/error.ts";
import { createLogger } from "../../base/log.ts";
import { until } from "../../base/test_until.ts";
import type { RunOptions, RunResult } from "../../executors/executor.ts";
import { type ContainerState, markExited } from "../../store/container_state.ts";
import type { Store } from "../../store/store.ts";
import { containerRecord, TestStore } from "../../store/test_store.ts";
import { Containers } from "./containers.ts";
import type { NodeMeans } from "./means.ts";
import { Node } from "./node.ts";
import { OciRuntime } from "./oci_runtime.ts";
import { Places } from "./places.ts";
import type { PreparePlace } from "./prepare.ts";

/** Longer ago than a program counts as young. */
const BEGUN_AT_MS = -60_000;

const GRACE_MS = 30_000;

interface TestContainers {
  containers: Containers;
  store: Store;
  /** What the paths of the files of the container c1 begin with. */
  files: string;
}

/** The container c1 on a node whose programs a test plays. */
async function withContainer(
  state: ContainerState,
  run: (argv: readonly string[], options: RunOptions) => Promise<void>,
  use: (test: TestContainers) => Promise<void>,
): Promise<void> {
  await using records = await TestStore.open();
  const { store } = records;
  store.containers.put(
    containerRecord({ state, workload: { cgroupsPath: "/c1", stopSignal: "" } }),
  );
  const places = new Places(records.path("root"), records.path("state"));
  const { bundle, files } = places.container("c1");
  for (const folder of [bundle, places.folders.files]) {
    await Deno.mkdir(folder, { recursive: true });
  }
  await Deno.writeTextFile(join(bundle, "config.json"), "{}");
  const executor = {
    run: async (argv: readonly string[], options: RunOptions = {}): Promise<RunResult> => {
      await run(argv, options);
      return { code: 0, stdout: new Uint8Array(), stderr: new Uint8Array() };
    },
  };
  let nowMs = 0;
  // Time passes for those alone who wait for nothing else.
  const clock: Clock = {
    now: () => nowMs,
    sleep: (ms, signal) =>
      new Promise((resolve, reject) => {
        if (signal !== undefined) {
          return signal.addEventListener("abort", () => reject(signal.reason));
        }
        nowMs += ms;
        resolve();
      }),
  };
  const means = {
    config: { maxLogBytes: 0, jobLogLines: false, podLogsDir: "" },
    store,
    executor,
    clock,
    log: createLogger({ threshold: "error", write: () => {} }),
  } as unknown as NodeMeans;
  const place = {
    node: new Node(executor),
    places,
    containers: store.containers,
  } as unknown as PreparePlace;
  const runtime = new OciRuntime(executor, records.path("state"), false);
  const containers = new Containers(means, place, runtime, () => {});
  try {
    await use({ containers, store, files });
  } finally {
    await containers.close();
  }
}

Deno.test("Containers.stop() leaves nothing running when a start succeeds as it is given up", async () => {
  const begun = Promise.withResolvers<void>();
  const events: string[] = [];
  let supervisor: Deno.FsFile | undefined;
  let phaseAtKill: string | undefined;
  const run = async ([program, ...args]: readonly string[], { signal }: RunOptions) => {
    if (program === "perl") {
      begun.resolve();
      await new Promise((resolve) => signal?.addEventListener("abort", resolve));
      throw new CriError("CANCELLED", "It was killed.");
    }
    if (args.includes("kill")) {
      events.push(`kill ${args.slice(-2).join(" ")}`);
      phaseAtKill = test?.store.containers.get("c1")?.state.phase;
      supervisor?.close();
    }
  };
  let test: TestContainers | undefined;
  await withContainer({ phase: "created" }, run, async (given) => {
    test = given;
    const { containers, store, files } = given;
    supervisor = await Deno.open(`${files}.stdout`, { create: true, append: true });
    await supervisor.lock(true);
    const started = assertRejects(
      () => containers.start("c1"),
      CriError,
      "it was stopped before it began",
    );
    await begun.promise;
    await containers.stop("c1", 0, new AbortController().signal);
    assertEquals([events, phaseAtKill], [["kill c1 SIGKILL"], "starting"]);
    assertEquals(store.containers.get("c1")?.state.phase, "exited");
    await started;
  });
});

Deno.test("Containers.stop() sends its signal once, and again when it could not be sent", async () => {
  const sent: string[] = [];
  let isLoaded = true;
  const run = (argv: readonly string[]) => {
    if (!argv.includes("kill")) return Promise.resolve();
    sent.push(argv.at(-1) ?? "");
    return isLoaded
      ? Promise.reject(new CriError("DEADLINE_EXCEEDED", "It took too long."))
      : Promise.resolve();
  };
  const running = { phase: "running", startedAtMs: BEGUN_AT_MS } as const;
  await withContainer(running, run, async ({ containers, store }) => {
    const stop = (signal: AbortSignal) => containers.stop("c1", GRACE_MS, signal);
    const { signal } = new AbortController();
    await assertRejects(() => stop(signal), CriError, "It took too long.");
    isLoaded = false;
    const stopped = [stop(signal), stop(signal)];
    await until(() => sent.length > 1);
    store.containers.settle("c1", (record) => ({
      ...record,
      state: markExited(record.state, { finishedAtMs: 0, exitCode: 0, reason: "", message: "" }),
    }));
    await Promise.all(stopped);
    assertEquals(sent, ["SIGTERM", "SIGTERM"]);
  });
});
