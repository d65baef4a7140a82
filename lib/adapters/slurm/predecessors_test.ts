import { assertEquals, assertRejects } from "@std/assert";
import { basename, dirname, join } from "@std/path";
import { CriError } from "../../base/error.ts";
import { createLogger } from "../../base/log.ts";
import type { JobTagRecord } from "../../store/records.ts";
import { containerRecord, sandboxRecord, TestStore } from "../../store/test_store.ts";
import { ClusterAccount } from "./account.ts";
import { jobName } from "./job.ts";
import { endPredecessors } from "./predecessors.ts";
import { submitJob } from "./submit.ts";
import { TestCluster } from "./test_cluster.ts";

interface Place {
  cluster: TestCluster;
  records: TestStore;
  directory: (id: string) => string;
  /** The tag of the attempt `old` of the same container, before the reboot. */
  tag: (changes?: Partial<JobTagRecord>) => JobTagRecord;
  /** Submits a job as the attempt `old` did. */
  submitOld: () => Promise<void>;
  end: () => Promise<void>;
  /** Ids of the tags that are kept. */
  kept: () => string[];
}

function test(name: string, use: (place: Place) => Promise<void>): void {
  Deno.test(`endPredecessors() ${name}`, async () => {
    await using cluster = await TestCluster.create();
    await using records = await TestStore.open();
    await cluster.program("sleep", "");
    const account = new ClusterAccount(cluster.session, {
      mountPath: "multi-cri",
      imageRemoteMount: undefined,
    }, cluster.lines);
    const directory = (id: string) => join(cluster.home, "multi-cri", "s1", id);
    const tag = (changes: Partial<JobTagRecord> = {}): JobTagRecord => ({
      id: "old",
      podUid: "uid",
      containerName: "main",
      account: account.name,
      directory: directory("old"),
      ...changes,
    });
    const now = tag({ id: "c1", directory: directory("c1") });
    records.store.jobTags.put(now);
    await use({
      cluster,
      records,
      directory,
      tag,
      submitOld: async () => {
        const name = jobName("old");
        const content = `#!/bin/bash\n#SBATCH --job-name="${name}"\n`;
        const job = { name, optionNames: [], viaArgv: [], directory: directory("old"), made: [] };
        const entries = [{ kind: "file" as const, name: "job.sh", mode: 0o600, content }];
        await submitJob(account, { ...job, entries }, []);
      },
      end: () =>
        endPredecessors(
          now,
          account,
          records.store,
          createLogger({ threshold: "error", write: () => {} }),
        ),
      kept: () => records.store.jobTags.all().map(({ id }) => id),
    });
  });
}

test("ends the job of an attempt from before a reboot and removes its files", async (place) => {
  await place.submitOld();
  place.records.store.jobTags.put(place.tag());
  await place.end();
  assertEquals(await place.cluster.job("101"), "CANCELLED|N/A|10||None");
  assertEquals(await place.cluster.stat(place.directory("old")), undefined);
  assertEquals(place.kept(), ["c1"]);
});

test("removes what that attempt's containers shared, unless the sandbox is still known", async (place) => {
  const shared = join(dirname(place.directory("old")), "volumes");
  for (const known of [true, false]) {
    await Deno.mkdir(join(shared, "data"), { recursive: true });
    if (known) place.records.store.sandboxes.put(sandboxRecord({ id: basename(dirname(shared)) }));
    else place.records.store.sandboxes.delete(basename(dirname(shared)));
    place.records.store.jobTags.put(place.tag());
    await place.end();
    assertEquals(await place.cluster.stat(shared) !== undefined, known);
  }
});

test("finds that job when its id was never written down", async (place) => {
  await place.submitOld();
  await Deno.remove(join(place.directory("old"), "jobid"));
  place.records.store.jobTags.put(place.tag());
  await place.end();
  assertEquals(await place.cluster.job("101"), "CANCELLED|N/A|10||None");
});

test("forgets an attempt that left no job", async (place) => {
  place.records.store.jobTags.put(place.tag());
  await place.end();
  assertEquals([place.kept(), await place.cluster.calls("scancel")], [["c1"], 0]);
  assertEquals(await place.cluster.stat(place.directory("old")), undefined);
});

test("throws UNAVAILABLE and forgets nothing while the old job has not ended", async (place) => {
  await place.submitOld();
  await place.cluster.fake("jobs/101/line", "RUNNING|N/A|10|n1|None");
  place.records.store.jobTags.put(place.tag());
  const error = await assertRejects(place.end, CriError, "The job 101 of an earlier attempt");
  assertEquals([error.code, place.kept()], ["UNAVAILABLE", ["c1", "old"]]);
  assertEquals(await place.cluster.stat(place.directory("old")) !== undefined, true);
});

test("throws UNAVAILABLE and forgets nothing while Slurm cannot be asked", async (place) => {
  await place.submitOld();
  await Deno.remove(join(place.directory("old"), "jobid"));
  await place.cluster.fake("squeue.fails", "down");
  place.records.store.jobTags.put(place.tag());
  assertEquals((await assertRejects(place.end, CriError)).code, "UNAVAILABLE");
  assertEquals(place.kept(), ["c1", "old"]);
});

const OTHERS: Record<string, Partial<JobTagRecord>> = {
  "another pod": { podUid: "other" },
  "another container of the pod": { containerName: "other" },
  "another account": { account: "v@login:22" },
};

for (const [whose, changes] of Object.entries(OTHERS)) {
  test(`leaves a job of ${whose} alone`, async (place) => {
    await place.submitOld();
    place.records.store.jobTags.put(place.tag(changes));
    await place.end();
    assertEquals(await place.cluster.job("101"), "PENDING|N/A|10||Priority");
    assertEquals(place.kept(), ["c1", "old"]);
  });
}

test("leaves a job alone whose container still has its record", async (place) => {
  await place.submitOld();
  place.records.store.jobTags.put(place.tag());
  place.records.store.containers.put(containerRecord({ id: "old" }));
  await place.end();
  assertEquals(await place.cluster.job("101"), "PENDING|N/A|10||Priority");
  assertEquals(place.kept(), ["c1", "old"]);
});
