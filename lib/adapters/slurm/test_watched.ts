/** A watch over jobs of a test cluster, for the tests of this directory. */
import { join } from "@std/path";
import type { CriError } from "../../base/error.ts";
import { createLogger } from "../../base/log.ts";
import { TestClock } from "../../base/test_clock.ts";
import { Mount } from "../../cri/api.generated.ts";
import { ContainerLog } from "../../logs/container_log.ts";
import type { ContainerState } from "../../store/container_state.ts";
import { containerRecord, TestStore } from "../../store/test_store.ts";
import { ClusterAccount } from "./account.ts";
import { OutputFollower } from "./follow.ts";
import { newsFolder } from "./news_folder.ts";
import { TestCluster } from "./test_cluster.ts";
import type { PlayedNode } from "./test_played_node.ts";
import { JobUsages } from "./usage.ts";
import { JobWatch } from "./watch.ts";
import { type SlurmWorkload, withWorkload, workloadOf } from "./workload.ts";

/** When the test's time begins. */
export const NOW_MS = Date.UTC(2026, 0, 2);
/** Longer than the pauses between two looks at Slurm, and than the grace of the exit file. */
export const LONG_MS = 6_000;

export class Watched {
  readonly clock = new TestClock(NOW_MS);
  readonly notes: string[] = [];
  /** Warnings and errors of the server's log, without times and fields. */
  readonly said: string[] = [];
  readonly ended: string[] = [];
  readonly usages = new JobUsages(10_000, this.clock);
  readonly watch: JobWatch;
  readonly logs: ContainerLog[] = [];

  /** With a node, jobs are followed there. */
  constructor(
    readonly cluster: TestCluster,
    readonly records: TestStore,
    readonly node?: PlayedNode,
  ) {
    this.watch = new JobWatch(
      new ClusterAccount(
        cluster.session,
        { mountPath: "m", imageRemoteMount: undefined, followOnNode: node !== undefined },
        node?.lines ?? cluster.lines,
        this.clock,
      ),
      records.store.containers,
      this.usages,
      ({ id }, message) => Promise.resolve(void this.notes.push(`${id}: ${message}`)),
      (id) => this.ended.push(id),
      this.clock,
      createLogger({
        threshold: "warning",
        write: (line) => this.said.push(line.replace(/^\S+ \w+ (.*?) container=.*$/s, "$1")),
      }),
    );
  }

  /** A running container whose job is pending. */
  async add(id = "c1", jobId = "101", maxLogBytes?: number): Promise<void> {
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
      maxLogBytes,
    );
    this.logs.push(log);
    const output = new OutputFollower(directory, log);
    this.watch.add({ containerId: id, directory, jobId, log, output });
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

  /** Writes a file of a job's, and leaves word of a start and an end unless `announced` is false. */
  async write(name: string, text: string, id = "c1", announced = true): Promise<void> {
    const directory = join(this.cluster.home, id);
    await Deno.writeTextFile(join(directory, name), text);
    if (!announced || !["status/start", "status/exit"].includes(name)) return;
    await Deno.mkdir(newsFolder(directory), { recursive: true });
    await Deno.writeTextFile(join(newsFolder(directory), id), "");
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

/** What a job writes into status/start. */
export const START = "job=101\nhost=n1\npid=5\ntime=1767312000.5\n";
/** What a job writes into status/exit. */
export const exit = (code: number, more = ""): string =>
  `job=101\ncode=${code}\ntime=1767312000.75\n${more}`;

/** Registers a test that runs after a first look at the pending job. */
export function watchTest(
  name: string,
  use: (watched: Watched) => Promise<void>,
  node?: PlayedNode,
): void {
  Deno.test(`JobWatch ${name}`, async () => {
    await using cluster = await TestCluster.create();
    await using records = await TestStore.open();
    const watched = new Watched(cluster, records, node);
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
