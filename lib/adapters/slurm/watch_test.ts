import { assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { CriError } from "../../base/error.ts";
import { createLogger } from "../../base/log.ts";
import { TestClock } from "../../base/test_clock.ts";
import { Mount } from "../../cri/api.generated.ts";
import { ContainerLog } from "../../logs/container_log.ts";
import type { ContainerState } from "../../store/container_state.ts";
import { containerRecord, TestStore } from "../../store/test_store.ts";
import { ClusterAccount } from "./account.ts";
import { TestCluster } from "./test_cluster.ts";
import { JobWatch } from "./watch.ts";
import { type SlurmWorkload, withWorkload, workloadOf } from "./workload.ts";

const NOW_MS = Date.UTC(2026, 0, 2);
/** What is copied for one job before the others get their turn. */
const TURN_BYTES = 4 * 1024 * 1024;
/** Longer than the pauses between two looks at Slurm, and than the grace of the exit file. */
const LONG_MS = 6_000;

class Watched {
  readonly clock = new TestClock(NOW_MS);
  readonly notes: string[] = [];
  readonly ended: string[] = [];
  readonly watch: JobWatch;
  readonly logs: ContainerLog[] = [];

  constructor(readonly cluster: TestCluster, readonly records: TestStore) {
    this.watch = new JobWatch(
      new ClusterAccount(cluster.session, { mountPath: "m", imageRemoteMount: undefined }),
      records.store.containers,
      ({ id }, message) => Promise.resolve(void this.notes.push(`${id}: ${message}`)),
      (id) => this.ended.push(id),
      this.clock,
      createLogger({ threshold: "error", write: () => {} }),
    );
  }

  /** A running container whose job is pending. */
  async add(id = "c1", jobId = "101"): Promise<void> {
    const directory = join(this.cluster.home, id);
    await Deno.mkdir(join(directory, "status"), { recursive: true });
    await this.queue("PENDING|N/A|10||Priority", jobId);
    this.records.store.containers.put(containerRecord({
      id,
      state: { phase: "running", startedAtMs: NOW_MS },
      workload: { account: "u", directory, jobId } satisfies SlurmWorkload,
    }));
    const log = new ContainerLog(
      id,
      this.records.path(`${id}.log`),
      this.records.store.logPositions,
      this.clock,
    );
    this.logs.push(log);
    this.watch.add({ containerId: id, directory, jobId, log });
  }

  /** Lets the kubelet ask for the termination message at this path of the node. */
  mount(id: string, hostPath: string): void {
    const mounts = [Mount.fromPartial({ containerPath: "/dev/termination-log", hostPath })];
    this.records.store.containers.update(id, (record) => ({
      ...record,
      config: { ...record.config, mounts },
    }));
  }

  /** Lets every look at a file fail whose path holds `words`. */
  failReading(words: string, error: CriError): void {
    const { session } = this.watch.account;
    const [readFile, readAt] = [session.readFile.bind(session), session.readAt.bind(session)];
    session.readFile = (path, ...rest) =>
      path.includes(words) ? Promise.reject(error) : readFile(path, ...rest);
    session.readAt = (path, ...rest) =>
      path.includes(words) ? Promise.reject(error) : readAt(path, ...rest);
  }

  /** What squeue says of a job; undefined when it forgot it. */
  async queue(line: string | undefined, jobId = "101"): Promise<void> {
    await Deno.mkdir(join(this.cluster.root, "fake/jobs", jobId), { recursive: true });
    await this.cluster.fake(`jobs/${jobId}/line`, line);
  }

  async write(name: string, text: string, id = "c1"): Promise<void> {
    await Deno.writeTextFile(join(this.cluster.home, id, name), text);
  }

  /** One look at everything, `ms` after the last one. */
  async pass(ms = LONG_MS): Promise<void> {
    const done = this.watch.nextPass();
    this.clock.advance(ms);
    await done;
  }

  workload(id = "c1"): SlurmWorkload {
    const record = this.records.store.containers.get(id);
    if (record === undefined) throw new Error(`no ${id}`);
    return workloadOf(record);
  }

  state(id = "c1"): ContainerState | undefined {
    return this.records.store.containers.get(id)?.state;
  }

  /** How the container ended; undefined while it has not. */
  end(id = "c1"): [code: number, reason: string] | undefined {
    const state = this.state(id);
    return state?.phase === "exited" ? [state.exitCode, state.reason] : undefined;
  }

  stop(killed: boolean): void {
    this.records.store.containers.update("c1", withWorkload((w) => ({ ...w, stop: { killed } })));
  }
}

const START = "job=101\nhost=n1\npid=5\ntime=1767312000.5\n";
const exit = (code: number, more = "") => `job=101\ncode=${code}\ntime=1767312000.75\n${more}`;

/** The case runs after a first look at the pending job. */
function test(name: string, use: (watched: Watched) => Promise<void>): void {
  Deno.test(`JobWatch ${name}`, async () => {
    await using cluster = await TestCluster.create();
    await using records = await TestStore.open();
    const watched = new Watched(cluster, records);
    await watched.add();
    await watched.watch.nextPass();
    try {
      await use(watched);
    } finally {
      await watched.watch.close();
      for (const log of watched.logs) await log.close();
    }
  });
}

test("notes why a job waits, once for each reason", async (watched) => {
  await watched.pass();
  await watched.queue("PENDING|N/A|11||Priority");
  await watched.pass();
  assertEquals(watched.workload().pending?.priority, "11");
  await watched.queue("PENDING|2026-01-02T04:00:00|11||Resources");
  await watched.pass();
  await watched.queue("PENDING|2026-01-02T04:00:00|11||None");
  await watched.pass();
  assertEquals(watched.notes, [
    "c1: job 101 waits: Priority",
    "c1: job 101 waits: Resources, expected start 2026-01-02T04:00:00",
  ]);
  assertEquals(watched.state()?.phase, "running");
});

test("asks Slurm once in a while only, and more often while a job is being stopped", async (watched) => {
  for (let i = 0; i < 4; i++) await watched.pass(1_100);
  assertEquals(await watched.cluster.calls("squeue"), 1);
  await watched.pass(1_100);
  assertEquals(await watched.cluster.calls("squeue"), 2);
  watched.stop(false);
  for (let i = 0; i < 4; i++) await watched.pass(1_100);
  assertEquals(await watched.cluster.calls("squeue"), 6);
});

test("tells where the job runs, once", async (watched) => {
  await watched.write("status/start", START);
  await watched.pass();
  await watched.pass();
  assertEquals(watched.notes.slice(1), ["c1: job 101 runs on n1"]);
  const { job, pending, slurmState } = watched.workload();
  assertEquals(job, { host: "n1", startedAtMs: 1_767_312_000_500 });
  assertEquals([pending, slurmState], [undefined, "RUNNING"]);
});

const EXITS: readonly [text: string, code: number, reason: string, notes: number][] = [
  [exit(0), 0, "Completed", 0],
  [exit(7), 7, "Error", 0],
  [exit(139), 139, "Error", 0],
  [exit(125, "error=no apptainer\n"), 125, "StartError", 1],
  ["rubbish", 255, "StartError", 1],
];

for (const [text, code, reason, notes] of EXITS) {
  test(`ends with ${code} ${reason} when the exit file is ${JSON.stringify(text)}`, async (watched) => {
    await watched.write("status/start", START);
    await watched.write("stdout", "unfinished");
    await watched.write("status/exit", text);
    await watched.pass();
    assertEquals([watched.end(), watched.ended], [[code, reason], ["c1"]]);
    assertEquals(watched.notes.length, 2 + notes);
    assertStringIncludes(
      await Deno.readTextFile(watched.records.path("c1.log")),
      " F unfinished\n",
    );
    assertEquals(watched.watch.watches("c1"), false);
  });
}

test("lets the exit file win over what Slurm says", async (watched) => {
  await watched.queue("FAILED|N/A|10|n1|NonZeroExitCode");
  await watched.write("status/exit", exit(3));
  await watched.pass();
  assertEquals(watched.end(), [3, "Error"]);
});

test("waits for the exit file of a job that Slurm calls ended", async (watched) => {
  await watched.write("status/start", START);
  await watched.queue("COMPLETED|N/A|10|n1|None");
  await watched.pass();
  assertEquals(watched.state()?.phase, "running");
  await watched.write("status/exit", exit(4));
  await watched.pass();
  assertEquals(watched.end(), [4, "Error"]);
});

const ENDS: readonly [line: string | undefined, scontrol: string, end: [number, string]][] = [
  ["TIMEOUT|N/A|10|n1|TimeLimit", "JobState=TIMEOUT ExitCode=0:15", [222, "DeadlineExceeded"]],
  ["OUT_OF_MEMORY|N/A|10|n1|None", "JobState=OUT_OF_MEMORY ExitCode=0:125", [137, "OOMKilled"]],
  ["NODE_FAIL|N/A|10|n1|None", "", [224, "NodeFail"]],
  [undefined, "", [255, "JobLost"]],
];

for (const [line, scontrol, end] of ENDS) {
  test(`ends with ${end.join(" ")} when squeue says ${line} and no exit file comes`, async (watched) => {
    await watched.write("status/start", START);
    await watched.queue(line);
    if (scontrol !== "") await watched.cluster.fake("jobs/101/scontrol", scontrol);
    await watched.pass();
    assertEquals(watched.end(), undefined);
    await watched.pass();
    assertEquals(watched.end(), end);
  });
}

test("ends a job at once when it was cancelled before it had a node", async (watched) => {
  await watched.queue("CANCELLED|N/A|10||None");
  await watched.pass();
  assertEquals(watched.end(), [221, "Cancelled"]);
});

for (const [killed, code] of [[false, 143], [true, 137]] as const) {
  test(`ends with ${code} when the job was stopped ${killed ? "by force" : "gently"} and left no code`, async (watched) => {
    watched.stop(killed);
    await watched.queue("CANCELLED|N/A|10||None");
    await watched.pass();
    assertEquals(watched.end(), [code, "Cancelled"]);
  });
}

test("keeps the program's own code when a stopped job left one", async (watched) => {
  watched.stop(false);
  await watched.write("status/exit", exit(9));
  await watched.pass();
  assertEquals(watched.end(), [9, "Error"]);
});

test("lets a job live that Slurm put back into the queue", async (watched) => {
  await watched.write("status/start", START);
  await watched.queue("NODE_FAIL|N/A|10|n1|None");
  await watched.cluster.fake("jobs/101/scontrol", "JobState=PENDING ExitCode=0:0");
  for (let i = 0; i < 3; i++) await watched.pass();
  assertEquals(watched.state()?.phase, "running");
});

test("forgets an end that Slurm took back", async (watched) => {
  await watched.queue(undefined);
  await watched.pass();
  await watched.queue("RUNNING|N/A|10|n1|None");
  await watched.pass();
  await watched.queue(undefined);
  await watched.pass();
  assertEquals(watched.state()?.phase, "running");
});

test("keeps every state while the cluster cannot be reached", async (watched) => {
  watched.cluster.offline = new CriError("UNAVAILABLE", "no route");
  await watched.queue(undefined);
  for (let i = 0; i < 3; i++) await watched.pass();
  assertEquals(watched.state()?.phase, "running");
  assertEquals(watched.watch.staleSince, { atMs: NOW_MS + LONG_MS, error: "no route" });
  watched.cluster.offline = undefined;
  await watched.write("status/exit", exit(0));
  await watched.pass();
  assertEquals([watched.end(), watched.watch.staleSince], [[0, "Completed"], undefined]);
});

for (const program of ["squeue", "scontrol"]) {
  test(`keeps every state while ${program} fails`, async (watched) => {
    if (program === "scontrol") await watched.queue(undefined);
    await watched.cluster.fake(`${program}.fails`, "Unable to contact slurm controller\n");
    for (let i = 0; i < 3; i++) await watched.pass();
    assertEquals(watched.state()?.phase, "running");
    assertStringIncludes(watched.watch.staleSince?.error ?? "", "Unable to contact");
  });
}

const UNREADABLE: readonly CriError[] = [
  new CriError("PERMISSION_DENIED", "not yours"),
  new CriError("RESOURCE_EXHAUSTED", "longer than 16384 bytes"),
  new CriError("FAILED_PRECONDITION", "failure"),
];

for (const error of UNREADABLE) {
  test(`lets squeue decide when reading one job's files fails with ${error.code}`, async (watched) => {
    watched.mount("c1", watched.records.path("message"));
    await watched.add("c2", "102");
    watched.failReading("/c1/", error);
    await watched.queue("RUNNING|N/A|10|n1|None");
    await watched.queue(undefined, "102");
    for (let i = 0; i < 3; i++) await watched.pass();
    assertEquals([watched.state()?.phase, watched.end("c2")], ["running", [255, "JobLost"]]);
    assertEquals(watched.watch.staleSince, undefined);
    await watched.queue(undefined);
    for (let i = 0; i < 3; i++) await watched.pass();
    assertEquals(watched.end(), [255, "JobLost"]);
    const words = `c1: the files of job 101 cannot be read: ${error.message}`;
    assertEquals(watched.notes.filter((note) => note === words).length, 1);
  });
}

for (const code of ["UNAVAILABLE", "UNKNOWN", "UNAUTHENTICATED", "DEADLINE_EXCEEDED"] as const) {
  test(`ends no job when reading its files fails with ${code}`, async (watched) => {
    watched.failReading("/c1/", new CriError(code, "no answer"));
    await watched.queue(undefined);
    for (let i = 0; i < 3; i++) await watched.pass();
    assertEquals(watched.state()?.phase, "running");
    assertEquals(watched.watch.staleSince?.error, "no answer");
  });
}

test("tells the end of one job while the long output of another is copied", async (watched) => {
  await watched.add("c2", "102");
  const turns = 3;
  const line = `${"x".repeat(64 * 1024 - 1)}\n`;
  await watched.write("stdout", line.repeat(turns * TURN_BYTES / line.length - 1));
  for (const id of ["c1", "c2"]) {
    await watched.write("status/start", START, id);
    await watched.write("status/exit", exit(0), id);
  }
  const ends: unknown[] = [];
  for (let turn = 0; turn < turns; turn++) {
    await watched.pass();
    ends.push([watched.end(), watched.end("c2")].map((end) => end?.[0]));
  }
  assertEquals(ends, [[undefined, 0], [undefined, 0], [0, 0]]);
  const { size } = await Deno.stat(watched.records.path("c1.log"));
  assertEquals(size > turns * TURN_BYTES - line.length, true);
});

test("follows the job that claimed the container, and cancels the other that Slurm accepted", async (watched) => {
  await watched.queue("RUNNING|N/A|10|n1|None", "102");
  await watched.write("status/start", START.replace("101", "102"));
  await watched.pass();
  assertEquals(watched.workload().jobId, "102");
  assertEquals(await watched.cluster.job("101"), "CANCELLED|N/A|10||None");
  assertEquals(await watched.cluster.calls("scancel", " 102"), 0);
  await watched.pass();
  assertEquals(watched.state()?.phase, "running");
  await watched.write("status/exit", exit(6));
  await watched.pass();
  assertEquals(watched.end(), [6, "Error"]);
});

test("cancels the other job when the first try to do so was lost", async (watched) => {
  await watched.queue("RUNNING|N/A|10|n1|None", "102");
  await watched.write("status/start", START.replace("101", "102"));
  watched.cluster.breaks.push({
    words: "scancel",
    error: new CriError("UNAVAILABLE", "lost"),
    when: "before",
  });
  await watched.pass();
  assertEquals([watched.workload().jobId, await watched.cluster.calls("scancel")], ["101", 0]);
  await watched.pass();
  assertEquals(watched.workload().jobId, "102");
  assertEquals(await watched.cluster.job("101"), "CANCELLED|N/A|10||None");
});

test("tells an end later when it cannot be recorded now", async (watched) => {
  const { containers } = watched.records.store;
  const update = containers.update.bind(containers);
  let failures = 0;
  containers.update = (id, change) => {
    const record = containers.get(id);
    if (failures < 2 && record !== undefined && change(record).state.phase === "exited") {
      failures++;
      throw new Error("database or disk is full");
    }
    return update(id, change);
  };
  await watched.write("status/exit", exit(125, "error=no apptainer\n"));
  await watched.pass();
  await watched.pass();
  assertEquals([watched.state()?.phase, watched.ended, failures], ["running", [], 2]);
  await watched.pass();
  assertEquals([watched.end(), watched.ended], [[125, "StartError"], ["c1"]]);
  assertEquals(watched.notes.filter((note) => note.includes("no apptainer")).length, 1);
});

test("copies the termination message before the end is told", async (watched) => {
  const path = watched.records.path("message");
  watched.mount("c1", path);
  await watched.write("termination-log", "it is done");
  await watched.write("status/exit", exit(0));
  let message: string | undefined;
  watched.records.store.containers.onChange((change) => {
    if (change.kind === "put" && change.record.state.phase === "exited") {
      message = Deno.readTextFileSync(path);
    }
  });
  await watched.pass();
  assertEquals([watched.end(), message], [[0, "Completed"], "it is done"]);
});

test("ends a job whose termination message cannot be written", async (watched) => {
  watched.mount("c1", watched.records.path("no/such/message"));
  await watched.write("termination-log", "it is done");
  await watched.write("status/exit", exit(2));
  await watched.pass();
  assertEquals(watched.end(), [2, "Error"]);
});

test("ends a job whose log cannot be written", async (watched) => {
  await Deno.mkdir(watched.records.path("c1.log"));
  await watched.write("stdout", "lost\n");
  await watched.write("status/exit", exit(5));
  await watched.pass();
  assertEquals(watched.end(), [5, "Error"]);
});

test("reports an end that lies before the start on this node's clock as no earlier", async (watched) => {
  await watched.write("status/exit", "job=101\ncode=0\ntime=5\n");
  await watched.pass();
  const state = watched.state();
  assertEquals(state?.phase === "exited" && state.finishedAtMs, NOW_MS);
});

test("looks no more at a job that was removed", async (watched) => {
  watched.watch.remove("c1");
  await watched.write("status/exit", exit(0));
  await watched.add("c2", "102");
  await watched.pass();
  assertEquals(watched.state()?.phase, "running");
});
