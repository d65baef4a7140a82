/** What running jobs use, on the real lab, driven by crictl alone. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { Harness } from "./harness.ts";

let harness: Harness;
Deno.test.beforeAll(async () => {
  // Jobs of tests live for seconds, so they tell every second what they use.
  harness = await Harness.start({ name: "statistics", flags: ["--usage-interval", "1"] });
});
Deno.test.afterAll(() => harness?.stop());

const sh = (script: string) => ["/bin/sh", "-c", script];
const MEBIBYTE = 1024 * 1024;

/** The parts of `crictl stats` and `crictl statsp` that tests look at; figures are text, as in protobuf's JSON. */
interface Figures {
  cpu: { timestamp: string; usageCoreNanoSeconds?: Value; usageNanoCores?: Value };
  memory: { timestamp: string; workingSetBytes?: Value; rssBytes?: Value; availableBytes?: Value };
}
type Value = { value: string } | null;
type ContainerFigures = Figures & { attributes: { id: string }; writableLayer: unknown };
interface PodFigures {
  attributes: { id: string };
  linux: Figures & { process: { processCount?: Value }; containers: ContainerFigures[] };
}

async function containerStats(...args: string[]): Promise<ContainerFigures[]> {
  return JSON.parse(await harness.server.crictlOk(["stats", "--output", "json", ...args])).stats;
}

async function podStats(pod: string): Promise<PodFigures | undefined> {
  const text = await harness.server.crictlOk(["statsp", "--output", "json", "--id", pod]);
  return JSON.parse(text).stats[0];
}

const known = (value: Value | undefined) => Number(value?.value ?? NaN);

/** Waits until the figures of a container are as wanted. */
async function until(
  container: string,
  what: string,
  holds: (figures: ContainerFigures) => boolean,
): Promise<ContainerFigures> {
  let last: ContainerFigures | undefined;
  await harness.until(container, what, async () => {
    [last] = await containerStats("--id", container);
    return last !== undefined && holds(last);
  });
  if (last === undefined) throw new Error("no figures");
  return last;
}

for (const node of ["n1", "n2"]) {
  Deno.test(`a job's cpu, memory and processes are told while it runs on ${node}`, async () => {
    // A second's worth of loops by a child that ends, some megabytes in a variable, and then a loop that goes on.
    const script = "(i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done); " +
      `x=$(head -c ${16 * MEBIBYTE} /dev/zero | tr '\\0' x); while :; do :; done`;
    const made = await harness.run({
      command: sh(script),
      linux: { resources: { memory_limit_in_bytes: 256 * MEBIBYTE } },
      cluster: { JOB_CUSTOM_CONFIG: `#SBATCH --nodelist=${node}` },
    });
    const busy = await until(
      made.container,
      "busy",
      ({ cpu, memory }) =>
        known(cpu.usageCoreNanoSeconds) > 0 && known(cpu.usageNanoCores) > 500_000_000 &&
        known(memory.rssBytes) > 16 * MEBIBYTE,
    );
    assertEquals(
      known(busy.memory.availableBytes) + known(busy.memory.workingSetBytes),
      256 * MEBIBYTE,
    );
    const later = await until(
      made.container,
      "measured again",
      ({ cpu }) => BigInt(cpu.timestamp) > BigInt(busy.cpu.timestamp),
    );
    assert(known(later.cpu.usageCoreNanoSeconds) >= known(busy.cpu.usageCoreNanoSeconds));
    const pod = await podStats(made.pod);
    assertEquals(pod?.linux.containers.map(({ attributes }) => attributes.id), [made.container]);
    assert(known(pod?.linux.process.processCount) >= 1, JSON.stringify(pod));
    assert(known(pod?.linux.memory.rssBytes) > 16 * MEBIBYTE, JSON.stringify(pod));
    const { info } = JSON.parse(await harness.server.crictlOk(["inspect", made.container]));
    const { job, partition, submittedAt, startedAt, directory, resultsDirectory, usage } =
      info.slurm;
    assertEquals([job.host, partition, resultsDirectory], [node, "main", `${directory}/results`]);
    assert(Date.parse(submittedAt) <= Date.parse(startedAt), JSON.stringify(info));
    assert(Number(usage.cpuNanoseconds) > 0, JSON.stringify(info));
    await harness.removeCleanly(made);
  });
}

Deno.test("crictl shows each job's use of the processor when it compares two seconds", async () => {
  const made = await harness.run({ command: sh("while :; do :; done") });
  await until(made.container, "told of", ({ cpu }) => known(cpu.usageCoreNanoSeconds) > 1e9);
  for (const [command, name] of [["stats", "main"], ["statsp", "statistics-"]] as const) {
    const [, row = ""] = (await harness.server.crictlOk([command])).split("\n");
    assertMatch(row, new RegExp(`${name}.* [1-9]\\d*\\.\\d\\d `));
  }
  await harness.removeCleanly(made);
});

Deno.test("a container has an entry without figures when its job waits", async () => {
  const made = await harness.run({ command: sh("exit"), cluster: { JOB_QUEUE: "held" } });
  const [figures] = await containerStats("--id", made.container);
  assertEquals(figures?.attributes.id, made.container);
  assert(BigInt(figures?.cpu.timestamp ?? 0) > 0n && BigInt(figures?.memory.timestamp ?? 0) > 0n);
  assertEquals(
    [figures?.cpu.usageCoreNanoSeconds, figures?.memory.workingSetBytes].map((v) => v ?? null),
    [null, null],
  );
  await harness.removeCleanly(made);
});
