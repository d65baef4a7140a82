import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { TestClock } from "../../base/test_clock.ts";
import { createLocalExecutor } from "../../executors/local.ts";
import { Node } from "./node.ts";
import { NodeUsages } from "./usage.ts";

/** Files of a container's cgroups as the kernel shows them, by their folders' names in the list of cgroups. */
const VERSION_2 = {
  unified: {
    "memory.current": "5246976\n",
    "memory.stat":
      "anon 1228800\nfile 3145728\nkernel 446464\nshmem 0\ninactive_anon 1196032\nactive_anon 32768\n" +
      "inactive_file 1048576\nactive_file 2097152\npgfault 5123\npgmajfault 7\npgrefill 0\n",
    "cpu.stat":
      "usage_usec 1234567\nuser_usec 1000000\nsystem_usec 234567\nnice_usec 0\nnr_periods 0\nnr_throttled 0\n",
    "pids.current": "3\n",
  },
};
const VERSION_1 = {
  memory: {
    "memory.usage_in_bytes": "5246976\n",
    "memory.stat":
      "cache 3145728\nrss 4096\ninactive_file 1\npgfault 1\npgmajfault 1\nhierarchical_memory_limit 1\n" +
      "total_cache 3145728\ntotal_rss 1228800\ntotal_inactive_file 1048576\ntotal_pgfault 5123\ntotal_pgmajfault 7\n",
  },
  cpuacct: { "cpuacct.usage": "1234567000\n" },
  pids: { "cgroup.procs": "17\n18\n19\n" },
};

/** Measures containers with these cgroups. */
async function withUsages(
  containers: Readonly<Record<string, Record<string, Record<string, string>>>>,
  use: (usages: NodeUsages, measure: () => Promise<void>, clock: TestClock) => Promise<void>,
): Promise<void> {
  const root = await Deno.makeTempDir();
  const clock = new TestClock();
  const usages = new NodeUsages(new Node(createLocalExecutor()), clock);
  const lists = new Map<string, string>();
  try {
    for (const [id, folders] of Object.entries(containers)) {
      const list = join(root, `${id}.cgroups`);
      lists.set(id, list);
      for (const [kind, files] of Object.entries(folders)) {
        const folder = join(root, id, kind);
        await Deno.mkdir(folder, { recursive: true });
        await Deno.writeTextFile(list, `${kind} ${folder}\n`, { append: true });
        for (const [name, text] of Object.entries(files)) {
          await Deno.writeTextFile(join(folder, name), text);
        }
      }
    }
    await use(usages, () => usages.measure(() => lists), clock);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
}

for (const [version, folders] of Object.entries({ 1: VERSION_1, 2: VERSION_2 })) {
  Deno.test(`NodeUsages.measure() reads cgroups of version ${version}`, () =>
    withUsages({ c1: folders }, async (usages, measure, clock) => {
      await measure();
      assertEquals(usages.of("c1"), {
        measuredAtMs: clock.now(),
        cpuAtMs: clock.now(),
        cpuNanoseconds: 1_234_567_000n,
        residentBytes: 5_246_976n - 1_048_576n,
        ownBytes: 1_228_800n,
        minorFaults: 5123n,
        majorFaults: 7n,
        processes: 3n,
      });
    }));
}

Deno.test("NodeUsages.measure() tells those that can be measured beside those that end", () =>
  withUsages(
    { begins: {}, c1: VERSION_2, ends: { unified: { "memory.current": "1\n" } }, c2: VERSION_1 },
    async (usages, measure) => {
      await measure();
      const told = ["begins", "c1", "ends", "c2"].map((id) => usages.of(id)?.processes);
      assertEquals(told, [undefined, 3n, undefined, 3n]);
    },
  ));

Deno.test("NodeUsages.measure() knows the rate after the second time, and measures not too often", () =>
  withUsages({ c1: VERSION_1 }, async (usages, measure, clock) => {
    await measure();
    clock.advance(499);
    await measure();
    assertEquals(usages.of("c1")?.nanoCores, undefined);
    clock.advance(1);
    await measure();
    assertEquals(usages.of("c1")?.nanoCores, 0n);
  }));
