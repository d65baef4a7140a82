/** Jobs that are followed on their nodes, where their files are seen late. */
import { assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import { frame, PlayedNode } from "./test_played_node.ts";
import { exit, START, watchTest } from "./test_watched.ts";

const node = new PlayedNode();
watchTest(
  "takes start, output and end from a job's node, and asks it once the job runs",
  async (watched) => {
    await watched.pass();
    assertEquals(node.requests, []);
    await watched.queue("RUNNING|N/A|10|n1|None");
    await watched.pass();
    await node.asked(1);
    await node.say(frame("s"), frame("b", `${START}\0`), frame("o", "one\ntwo"));
    await watched.pass(200);
    assertEquals(watched.workload().job, { host: "n1", startedAtMs: 1767312000500 });
    assertEquals(watched.end(), undefined);
    await node.say(frame("b", `${START}\0${exit(4)}`));
    await watched.pass(200);
    assertEquals([watched.end(), watched.ended], [[4, "Error"], ["c1"]]);
    const text = await Deno.readTextFile(watched.records.path("c1.log"));
    assertEquals(text.match(/ stdout .*/g), [" stdout F one", " stdout F two"]);
  },
  node,
);

const second = new PlayedNode();
watchTest("asks another node when Slurm runs a job again", async (watched) => {
  await watched.queue("RUNNING|N/A|10|n1|None");
  await watched.pass();
  await second.asked(1);
  await second.say(frame("s"), frame("b", `${START}\0`));
  await watched.pass(200);
  await watched.queue("PENDING|N/A|10||BeginTime");
  await watched.pass();
  assertEquals(watched.workload().job, undefined);
  await watched.queue("RUNNING|N/A|10|n2|None");
  await watched.pass();
  await second.asked(2);
  // What the first run left.
  await second.say(frame("s"), frame("b", `${START}\0${exit(4)}`));
  await watched.pass(200);
  assertEquals([watched.workload().job, watched.end()], [undefined, undefined]);
  const again = START.replace("n1", "n2").replace("000.5", "111.5");
  await second.say(frame("b", `${again}\0`));
  await watched.pass(200);
  await second.say(frame("b", `${again}\0${exit(0)}`));
  await watched.pass(200);
  assertEquals(watched.end(), [0, "Completed"]);
}, second);

const third = new PlayedNode();
watchTest("follows no job that was removed while Slurm was asked", async (watched) => {
  const { containers } = watched.records.store;
  const update = containers.update.bind(containers);
  let removal: Promise<void> | undefined;
  // What squeue says of the job is being taken in.
  containers.update = (id, change) => {
    removal ??= watched.watch.remove("c1");
    return update(id, change);
  };
  await watched.cluster.fake("partition", "other");
  await watched.queue("RUNNING|N/A|10|n1|None");
  await watched.pass();
  assertEquals(watched.watch.watches("c1"), false);
  await removal;
  await third.asked(1);
  await delay(20);
  assertEquals(third.steps, 0);
}, third);
