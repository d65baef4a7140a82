import { assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { TestClock } from "../../base/test_clock.ts";
import { CriError } from "../../base/error.ts";
import { ContainerLog } from "../../logs/container_log.ts";
import { TestStore } from "../../store/test_store.ts";
import { OutputFollower, readTurns } from "./follow.ts";
import { TestCluster } from "./test_cluster.ts";

class Follower implements AsyncDisposable {
  log!: ContainerLog;
  #output!: OutputFollower;

  constructor(readonly cluster: TestCluster, readonly records: TestStore) {
    this.open();
  }

  /** As another process would, with what is recorded. */
  open(maxFileBytes?: number): void {
    const { logPositions } = this.records.store;
    const path = this.records.path("0.log");
    this.log = new ContainerLog("c1", path, logPositions, new TestClock(), maxFileBytes);
    this.#output = new OutputFollower(this.cluster.home, this.log);
  }

  async write(stream: "stdout" | "stderr", text: string): Promise<void> {
    await Deno.writeTextFile(join(this.cluster.home, stream), text, { append: true });
  }

  /** True when nothing was left. */
  async follow(final = false, certain = false): Promise<boolean> {
    const source = { session: this.cluster.session, turns: readTurns() };
    return (await this.#output.follow(source, { final, certain })).atEnd;
  }

  /** The log's lines without their times. */
  async lines(): Promise<string[]> {
    const text = await Deno.readTextFile(this.records.path("0.log")).catch(() => "");
    return text.split("\n").slice(0, -1).map((line) => line.slice(line.indexOf(" ") + 1));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.log.close();
  }
}

async function withFollower(use: (follower: Follower) => Promise<void>): Promise<void> {
  await using cluster = await TestCluster.create();
  await using records = await TestStore.open();
  await using follower = new Follower(cluster, records);
  await use(follower);
}

Deno.test("OutputFollower.follow() copies whole lines as they appear and the rest at the end", () =>
  withFollower(async (follower) => {
    await follower.follow();
    assertEquals(await follower.lines(), []);
    await follower.write("stdout", "one\ntw");
    await follower.follow();
    await follower.follow();
    assertEquals(await follower.lines(), ["stdout F one"]);
    await follower.write("stderr", "oops\n");
    await follower.write("stdout", "o\nthree");
    await follower.follow();
    assertEquals(await follower.lines(), ["stdout F one", "stdout F two", "stderr F oops"]);
    await follower.follow(true);
    await follower.follow(true);
    assertEquals((await follower.lines()).slice(3), ["stdout F three"]);
  }));

Deno.test("OutputFollower.follow() copies each byte once when it goes on in another process", () =>
  withFollower(async (follower) => {
    await follower.write("stdout", "one\ntwo\n");
    await follower.follow();
    await follower.log.close();
    follower.open();
    await follower.write("stdout", "three\n");
    await follower.follow();
    assertEquals(await follower.lines(), ["stdout F one", "stdout F two", "stdout F three"]);
  }));

const MEBIBYTE = 1024 * 1024;

for (const final of [false, true]) {
  Deno.test(`OutputFollower.follow() stops after 2 MiB and goes on from there when final is ${final}`, () =>
    withFollower(async (follower) => {
      const line = `${"x".repeat(1023)}\n`;
      await follower.write("stdout", line.repeat(5 * 1024));
      await follower.write("stderr", "unfinished");
      const turns: [atEnd: boolean, stdoutBytes: number][] = [];
      for (let turn = 0; turn < 3; turn++) {
        turns.push([await follower.follow(final), follower.log.consumedBytes("stdout") / MEBIBYTE]);
      }
      assertEquals(turns, [[false, 2], [false, 4], [true, 5]]);
      const lines = await follower.lines();
      assertEquals(lines.filter((text) => text.startsWith("stdout F ")).length, 5 * 1024);
      assertEquals(lines.includes("stderr F unfinished"), final);
    }));
}

Deno.test("OutputFollower.follow() keeps what it copied when the cluster goes away", () =>
  withFollower(async (follower) => {
    await follower.write("stdout", "one\n");
    await follower.follow();
    follower.cluster.offline = new CriError("UNAVAILABLE", "gone");
    await assertRejects(() => follower.follow(), CriError, "gone");
    follower.cluster.offline = undefined;
    await follower.write("stdout", "two\n");
    await follower.follow();
    assertEquals(await follower.lines(), ["stdout F one", "stdout F two"]);
  }));

Deno.test("OutputFollower.follow() opens a file that has not grown only when it is to be certain", () =>
  withFollower(async (follower) => {
    const { session } = follower.cluster;
    const readAt = session.readAt.bind(session);
    let reads = 0;
    session.readAt = (...args) => {
      reads++;
      return readAt(...args);
    };
    await follower.write("stdout", "one\nunfinished");
    await follower.follow();
    const before = reads;
    for (let looks = 0; looks < 3; looks++) await follower.follow();
    assertEquals(reads, before);
    await follower.follow(false, true);
    assertEquals(reads, before + 2);
    await follower.write("stdout", " no more\n");
    await follower.follow();
    assertEquals(await follower.lines(), ["stdout F one", "stdout F unfinished no more"]);
  }));

Deno.test("OutputFollower.follow() leaves output on the cluster when the log is full", () =>
  withFollower(async (follower) => {
    await follower.log.close();
    follower.open(3 * MEBIBYTE);
    const line = `${"x".repeat(1023)}\n`;
    await follower.write("stdout", line.repeat(12 * 1024));
    for (let turn = 0; turn < 10; turn++) await follower.follow();
    const path = follower.records.path("0.log");
    const { size } = await Deno.stat(path);
    assertEquals([size >= 3 * MEBIBYTE, size < 5 * MEBIBYTE], [true, true]);
    let files = 1;
    for (; follower.log.consumedBytes("stdout") < 12 * MEBIBYTE; files++) {
      await Deno.rename(path, `${path}.${files}`);
      await follower.log.reopen();
      for (let turn = 0; turn < 10; turn++) await follower.follow();
    }
    assertEquals(files > 2, true);
    const rotated: number[] = [];
    for (let file = 1; file < files; file++) {
      rotated.push((await Deno.readTextFile(`${path}.${file}`)).split("\n").length - 1);
    }
    rotated.push((await follower.lines()).length);
    assertEquals(rotated.reduce((sum, lines) => sum + lines), 12 * 1024);
  }));
