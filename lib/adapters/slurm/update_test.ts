import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { CriError } from "../../base/error.ts";
import { LinuxContainerResources } from "../../cri/api.generated.ts";
import { type Place, placeTest } from "./test_place.ts";
import { TIME_LIMIT_ANNOTATION } from "./job_options.ts";
import { withWorkload } from "./workload.ts";

type Resources = Parameters<typeof LinuxContainerResources.fromPartial>[0];

const MEBIBYTE = 1024n * 1024n;
const BEFORE: Resources = {
  cpuQuota: 100_000n,
  cpuPeriod: 100_000n,
  memoryLimitInBytes: 100n * MEBIBYTE,
};

/** Asks for other resources and a time limit. */
async function update(place: Place, after: Resources, limit?: string): Promise<void> {
  const annotations: Record<string, string> = limit === undefined
    ? {}
    : { [TIME_LIMIT_ANNOTATION]: limit };
  const change = {
    before: LinuxContainerResources.fromPartial(BEFORE),
    after: LinuxContainerResources.fromPartial({ ...BEFORE, ...after }),
    annotations,
  };
  await place.adapter.updateResources(place.record, change);
}

/** The job runs. */
function run({ records }: Place): void {
  const job = { host: "n1", startedAtMs: 0 };
  records.store.containers.update("c1", withWorkload((workload) => ({ ...workload, job })));
}

/** What scontrol was told, without the job's id. */
async function told(place: Place): Promise<string[]> {
  const calls = await Deno.readTextFile(`${place.cluster.root}/fake/calls`);
  const prefix = `scontrol update JobId=${place.jobId} `;
  return calls.split("\n").filter((line) => line.startsWith(prefix))
    .map((line) => line.slice(prefix.length));
}

const ASKED: [what: string, after: Resources, limit: string | undefined, asked: string[]][] = [
  ["nothing changes", {}, undefined, []],
  ["the cores change", { cpuQuota: 150_000n }, undefined, [
    "CPUsPerTask=2 NumCPUs=2 MinCPUsNode=2",
  ]],
  ["the memory changes", { memoryLimitInBytes: 200n * MEBIBYTE + 1n }, undefined, [
    "MinMemoryNode=201",
  ]],
  ["both change", { cpuQuota: 400_000n, memoryLimitInBytes: MEBIBYTE }, undefined, [
    "CPUsPerTask=4 NumCPUs=4 MinCPUsNode=4 MinMemoryNode=1",
  ]],
  [
    "it is rounded to the same",
    { cpuQuota: 50_000n, memoryLimitInBytes: 100n * MEBIBYTE - 5n },
    undefined,
    [],
  ],
  ["the limits go", { cpuQuota: -1n, memoryLimitInBytes: -1n }, undefined, []],
  ["only the node's own processors change", { cpusetCpus: "1-3" }, undefined, []],
  ["the time limit changes", {}, "2-12:30", ["TimeLimit=2-12:30"]],
];
for (const [what, after, limit, asked] of ASKED) {
  placeTest(
    `updateResources() asks Slurm for ${asked} when ${what} of a waiting job`,
    async (place) => {
      await place.start();
      await update(place, after, limit);
      assertEquals(await told(place), asked);
      const notes = asked.map((line) =>
        `job ${place.jobId} changed: ${line.replaceAll(" ", ", ")}`
      );
      for (const note of notes) assertStringIncludes(await place.notes(), note);
    },
  );
}

placeTest(
  "updateResources() changes a running job's time limit and nothing else",
  async (place) => {
    await place.start();
    run(place);
    await update(place, { cpuQuota: 90_000n }, "5");
    assertEquals(await told(place), ["TimeLimit=5"]);
    const error = await assertRejects(
      () => update(place, { cpuQuota: 900_000n }, "5"),
      CriError,
      "of waiting jobs only",
    );
    assertEquals(error.code, "FAILED_PRECONDITION");
    assertEquals(await told(place), ["TimeLimit=5"]);
  },
);

placeTest("updateResources() leaves what the job's own settings decide", async (place) => {
  await place.start();
  place.records.store.containers.update(
    "c1",
    withWorkload((workload) => ({ ...workload, counts: { cores: false, memory: true } })),
  );
  await update(place, { cpuQuota: 900_000n, memoryLimitInBytes: MEBIBYTE });
  assertEquals(await told(place), ["MinMemoryNode=1"]);
});

placeTest(
  "updateResources() does nothing before the start, but refuses a time limit",
  async (place) => {
    await update(place, { cpuQuota: 900_000n });
    const error = await assertRejects(
      () => update(place, {}, "5"),
      CriError,
      "before it is started",
    );
    assertEquals(error.code, "FAILED_PRECONDITION");
    assertEquals(await place.cluster.calls("scontrol"), 0);
  },
);

const REFUSED: [words: string, code: string][] = [
  ["Access/permission denied for job 101", "FAILED_PRECONDITION"],
  ["Unable to contact slurm controller (connect failure)", "UNAVAILABLE"],
];
for (const [words, code] of REFUSED) {
  placeTest(`updateResources() fails with ${code} when Slurm says ${words}`, async (place) => {
    await place.start();
    await place.cluster.fake("update.says", `${words}\n`);
    const error = await assertRejects(() => update(place, {}, "20"), CriError, words);
    assertEquals(error.code, code);
  });
}

for (
  const [what, after] of Object.entries<Resources>({
    "less memory than none": { memoryLimitInBytes: -5n },
    "more memory than there is": { memoryLimitInBytes: 1n << 62n },
    "a cpu quota below none": { cpuQuota: -100n },
    "more cores than Slurm can count": { cpuQuota: 70_000n * 100_000n },
  })
) {
  placeTest(`updateResources() refuses ${what}, before the start too`, async (place) => {
    for (const begin of [() => Promise.resolve(), () => place.start()]) {
      await begin();
      const error = await assertRejects(() => update(place, after), CriError, "must be");
      assertEquals(error.code, "INVALID_ARGUMENT");
    }
    assertEquals(await told(place), []);
  });
}

for (const limit of ["", "soon", "5 JobId=1", "1:2:3:4", "-5", "5\nx"]) {
  placeTest(`updateResources() refuses the time limit ${JSON.stringify(limit)}`, async (place) => {
    await place.start();
    const error = await assertRejects(() => update(place, {}, limit), CriError);
    assertEquals(error.code, "INVALID_ARGUMENT");
    assertEquals(await told(place), []);
  });
}
