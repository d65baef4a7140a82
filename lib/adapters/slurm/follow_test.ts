import { assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { TestClock } from "../../base/test_clock.ts";
import { CriError } from "../../base/error.ts";
import { ContainerLog } from "../../logs/container_log.ts";
import { TestStore } from "../../store/test_store.ts";
import { followOutput } from "./follow.ts";
import { TestCluster } from "./test_cluster.ts";

class Follower implements AsyncDisposable {
  log: ContainerLog;

  constructor(readonly cluster: TestCluster, readonly records: TestStore) {
    this.log = this.open();
  }

  open(): ContainerLog {
    const { store } = this.records;
    this.log = new ContainerLog(
      "c1",
      this.records.path("0.log"),
      store.logPositions,
      new TestClock(),
    );
    return this.log;
  }

  async write(stream: "stdout" | "stderr", text: string): Promise<void> {
    await Deno.writeTextFile(join(this.cluster.home, stream), text, { append: true });
  }

  async follow(final = false): Promise<boolean> {
    return await followOutput(this.cluster.session, this.cluster.home, this.log, final);
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

Deno.test("followOutput() copies whole lines as they appear and the rest at the end", () =>
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

Deno.test("followOutput() copies each byte once when it goes on in another process", () =>
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
  Deno.test(`followOutput() stops after 4 MiB and goes on from there when final is ${final}`, () =>
    withFollower(async (follower) => {
      const line = `${"x".repeat(1023)}\n`;
      await follower.write("stdout", line.repeat(9 * 1024));
      await follower.write("stderr", "unfinished");
      const turns: [atEnd: boolean, stdoutBytes: number][] = [];
      for (let turn = 0; turn < 3; turn++) {
        turns.push([await follower.follow(final), follower.log.consumedBytes("stdout") / MEBIBYTE]);
      }
      assertEquals(turns, [[false, 4], [false, 8], [true, 9]]);
      const lines = await follower.lines();
      assertEquals(lines.filter((text) => text.startsWith("stdout F ")).length, 9 * 1024);
      assertEquals(lines.includes("stderr F unfinished"), final);
    }));
}

Deno.test("followOutput() keeps what it copied when the cluster goes away", () =>
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
