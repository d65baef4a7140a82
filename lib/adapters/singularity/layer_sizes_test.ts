import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { createLogger } from "../../base/log.ts";
import { TestClock } from "../../base/test_clock.ts";
import type { Executor } from "../../executors/executor.ts";
import { createLocalExecutor } from "../../executors/local.ts";
import type { ContainerState } from "../../store/container_state.ts";
import { containerRecord, TestStore } from "../../store/test_store.ts";
import { LayerSizes } from "./layer_sizes.ts";
import { Places } from "./places.ts";

const INTERVAL_MS = 10_000;
const FILE_BYTES = 100_000;

interface TestLayers {
  sizes: LayerSizes;
  clock: TestClock;
  /** Puts a container there whose state is this, and so many files more into its layer. */
  put: (id: string, state: ContainerState, files: number) => Promise<void>;
  remove: (id: string) => void;
  /** Of the container: how many inodes there are beside the folder itself, if it is known. */
  files: (id: string) => number | undefined;
}

function test(
  name: string,
  body: (test: TestLayers) => Promise<void>,
  broken?: (clock: TestClock) => Executor,
): void {
  Deno.test(name, async () => {
    await using records = await TestStore.open();
    const { containers } = records.store;
    const clock = new TestClock();
    const places = new Places(records.path("root"), records.path("state"));
    const log = createLogger({ threshold: "error", write: () => {} });
    const executor = broken?.(clock) ?? createLocalExecutor();
    const sizes = new LayerSizes(executor, places, containers, clock, log);
    let names = 0;
    await body({
      sizes,
      clock,
      async put(id, state, files) {
        containers.put(containerRecord({ id, state, createdAtMs: clock.now() }));
        const upper = join(places.container(id).layer, "upper");
        await Deno.mkdir(upper, { recursive: true });
        while (files-- > 0) {
          await Deno.writeFile(join(upper, String(++names)), new Uint8Array(FILE_BYTES).fill(1));
        }
      },
      remove: (id) => containers.delete(id),
      files: (id) => {
        const inodes = sizes.of(id)?.inodes;
        return inodes === undefined ? undefined : Number(inodes) - 1;
      },
    });
    await sizes.close();
  });
}

const running = ({ clock }: TestLayers): ContainerState => ({
  phase: "running",
  startedAtMs: clock.now(),
});
const exited = ({ clock }: TestLayers): ContainerState => ({
  phase: "exited",
  startedAtMs: clock.now(),
  finishedAtMs: clock.now(),
  exitCode: 0,
  reason: "Completed",
  message: "",
});

test("LayerSizes tells what the disk has, again after a while", async (place) => {
  const { sizes, clock, put, files } = place;
  await put("a", running(place), 2);
  await put("b", running(place), 0);
  assertEquals(files("a"), undefined);
  await sizes.refresh();
  assertEquals([files("a"), files("b"), files("none")], [2, 0, undefined]);
  const total = sizes.total();
  assertEquals([total.inodes, total.measuredAtMs], [4n, clock.now()]);
  assertEquals(total.bytes, (sizes.of("a")?.bytes ?? 0n) + (sizes.of("b")?.bytes ?? 0n));
  const { bytes, measuredAtMs } = sizes.of("a") ?? {};
  assert(Number(bytes) >= 2 * FILE_BYTES && Number(bytes) < 3 * FILE_BYTES, String(bytes));
  assertEquals(measuredAtMs, clock.now());
  await put("a", running(place), 1);
  await sizes.refresh();
  assertEquals(files("a"), 2);
  clock.advance(INTERVAL_MS);
  await sizes.refresh();
  assertEquals(files("a"), 3);
});

test("LayerSizes looks at a container that has ended once more, and then no more", async (place) => {
  const { sizes, clock, put, files, remove } = place;
  await put("a", running(place), 1);
  await sizes.refresh();
  clock.advance(INTERVAL_MS);
  const end = exited(place);
  await put("a", end, 1);
  const seen: (number | undefined)[] = [];
  for (let asked = 0; asked < 3; asked++) {
    await sizes.refresh();
    seen.push(files("a"));
    clock.advance(INTERVAL_MS);
    await put("a", end, 1);
  }
  // The first of these looks came in the same moment as the end, so there was another.
  assertEquals(seen, [2, 3, 3]);
  remove("a");
  sizes.forget("a");
  await sizes.refresh();
  assertEquals(files("a"), undefined);
});

let looks = 0;
test(
  "LayerSizes looks less often where looking takes long, and survives what fails",
  async (place) => {
    const { sizes, clock, put } = place;
    await put("a", running(place), 0);
    const seen: number[] = [];
    for (const pauseMs of [0, INTERVAL_MS, 60_000, 20_000]) {
      clock.advance(pauseMs);
      await sizes.refresh();
      seen.push(looks);
    }
    assertEquals(seen, [1, 1, 1, 2]);
  },
  (clock) => ({
    run() {
      looks++;
      clock.advance(10_000);
      return Promise.reject(new Error("no du here"));
    },
  }),
);
