import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { TestClock } from "../../base/test_clock.ts";
import { PsiData } from "../../cri/api.generated.ts";
import { createLocalExecutor } from "../../executors/local.ts";
import { Node } from "./node.ts";
import { NodeUsages } from "./usage.ts";

/** Files of a container's cgroups as the kernel shows them, by their folders' names in the list of cgroups. */
const VERSION_2 = {
  unified: {
    "memory.current": "5246976\n",
    "memory.peak": "6000000\n",
    "memory.swap.current": "8192\n",
    "memory.swap.max": "max\n",
    "memory.events": "low 0\nhigh 0\nmax 5\noom 0\noom_kill 0\n",
    "memory.stat":
      "anon 1228800\nfile 3145728\nkernel 446464\nshmem 0\nfile_mapped 4096\ninactive_anon 1196032\n" +
      "active_anon 32768\ninactive_file 1048576\nactive_file 2097152\npgfault 5123\npgmajfault 7\npgrefill 0\n",
    "cpu.stat":
      "usage_usec 1234567\nuser_usec 1000000\nsystem_usec 234567\nnice_usec 0\nnr_periods 20\nnr_throttled 2\n" +
      "throttled_usec 300\nnr_bursts 0\nburst_usec 0\n",
    "pids.current": "4\n",
    "pids.max": "max\n",
    "cgroup.procs": "17\n18\n19\n",
    "cpu.pressure":
      "some avg10=1.50 avg60=0.25 avg300=0.00 total=42\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
    "io.pressure":
      "some avg10=0.00 avg60=0.00 avg300=0.01 total=7\nfull avg10=0.00 avg60=0.00 avg300=0.01 total=6\n",
  },
};
const VERSION_1 = {
  memory: {
    "memory.usage_in_bytes": "5246976\n",
    "memory.max_usage_in_bytes": "6000000\n",
    "memory.kmem.usage_in_bytes": "446464\n",
    "memory.failcnt": "5\n",
    "memory.stat":
      "cache 1\nrss 4096\nmapped_file 1\nswap 1\npgfault 1\npgmajfault 1\ninactive_file 1\nactive_file 1\n" +
      "hierarchical_memory_limit 10485760\nhierarchical_memsw_limit 9223372036854771712\ntotal_cache 3145728\n" +
      "total_rss 1228800\ntotal_mapped_file 4096\ntotal_swap 8192\ntotal_pgfault 5123\ntotal_pgmajfault 7\n" +
      "total_inactive_file 1048576\ntotal_active_file 2097152\n",
  },
  cpu: { "cpu.stat": "nr_periods 20\nnr_throttled 2\nthrottled_time 300000\n" },
  cpuacct: {
    "cpuacct.usage": "1234567000\n",
    "cpuacct.usage_user": "1000000000\n",
    "cpuacct.usage_sys": "234567000\n",
  },
  pids: { "cgroup.procs": "17\n18\n19\n", "pids.current": "4\n", "pids.max": "max\n" },
};

/** What the kernel tells of them in either version. */
const COUNTED = {
  usageBytes: 5_246_976n,
  peakBytes: 6_000_000n,
  cacheBytes: 3_145_728n,
  mappedBytes: 4096n,
  activeFileBytes: 2_097_152n,
  inactiveFileBytes: 1_048_576n,
  kernelBytes: 446_464n,
  swapBytes: 8192n,
  limitHits: 5n,
  userNanoseconds: 1_000_000_000n,
  systemNanoseconds: 234_567_000n,
  periods: 20n,
  throttledPeriods: 2n,
  throttledNanoseconds: 300_000n,
  threads: 4n,
};

const data = (Total: bigint, Avg10 = 0, Avg60 = 0, Avg300 = 0): PsiData =>
  PsiData.fromPartial({ Total, Avg10, Avg60, Avg300 });
const PRESSURE = {
  cpu: { Some: data(42_000n, 1.5, 0.25), Full: data(0n) },
  io: { Some: data(7000n, 0, 0, 0.01), Full: data(6000n, 0, 0, 0.01) },
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
        counted: COUNTED,
        ...(version === "2" ? { pressure: PRESSURE } : {}),
      });
    }));
}

const LIMITS: [what: string, folders: typeof VERSION_1 | typeof VERSION_2, bytes: bigint][] = [
  ["2", { unified: { ...VERSION_2.unified, "memory.swap.max": "4096\n" } }, 4096n],
  [
    "1",
    {
      ...VERSION_1,
      memory: {
        ...VERSION_1.memory,
        "memory.stat": "hierarchical_memory_limit 1000\nhierarchical_memsw_limit 1500\n",
      },
    },
    500n,
  ],
];
for (const [version, folders, bytes] of LIMITS) {
  Deno.test(`NodeUsages.measure() reads limits of swap when cgroups have version ${version}`, () =>
    withUsages({ c1: folders }, async (usages, measure) => {
      await measure();
      assertEquals(usages.of("c1")?.counted?.swapLimitBytes, bytes);
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
