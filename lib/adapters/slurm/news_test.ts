import { assertEquals } from "@std/assert";
import { CriError } from "../../base/error.ts";
import { newsFolder, pruneNewsScript } from "./news_folder.ts";
import { TestCluster } from "./test_cluster.ts";
import { exit, START, type Watched, watchTest } from "./test_watched.ts";

const SOON_MS = 150;

function newsOf({ cluster }: Watched): string[] {
  return [...Deno.readDirSync(newsFolder(`${cluster.home}/c1`))].map(({ name }) => name);
}

watchTest("looks soon at a job that left word, and takes the word away", async (watched) => {
  await watched.write("status/start", START);
  await Deno.writeTextFile(`${newsFolder(`${watched.cluster.home}/c1`)}/of-another-server`, "");
  await watched.pass(SOON_MS);
  assertEquals(watched.workload().job?.host, "n1");
  await watched.write("status/exit", exit(7));
  await watched.pass(SOON_MS);
  assertEquals([watched.end(), newsOf(watched)], [[7, "Error"], ["of-another-server"]]);
});

watchTest("looks in time at a job whose word was lost", async (watched) => {
  await watched.queue("RUNNING|N/A|10|n1|None");
  await watched.write("status/start", START, "c1", false);
  await watched.pass(SOON_MS);
  assertEquals(watched.workload().job, undefined);
  await watched.pass();
  assertEquals(watched.workload().job?.host, "n1");
  await watched.write("status/exit", exit(7), "c1", false);
  await watched.pass(SOON_MS);
  assertEquals(watched.end(), undefined);
  await watched.pass(2_000);
  assertEquals(watched.end(), [7, "Error"]);
});

watchTest("looks again at a job with news when the files could not be read", async (watched) => {
  const { session } = watched.watch.account;
  const readFile = session.readFile.bind(session);
  session.readFile = () => Promise.reject(new CriError("UNAVAILABLE", "lost"));
  await watched.write("status/exit", exit(7));
  await watched.pass(SOON_MS);
  assertEquals([watched.end(), newsOf(watched)], [undefined, []]);
  session.readFile = readFile;
  await watched.pass(1_000);
  assertEquals(watched.end(), [7, "Error"]);
});

watchTest("goes on without news when their folder cannot be read", async (watched) => {
  const { session } = watched.watch.account;
  session.list = () => Promise.reject(new CriError("PERMISSION_DENIED", "not yours"));
  await watched.write("status/exit", exit(7));
  await watched.pass();
  assertEquals([watched.end(), watched.watch.staleSince], [[7, "Error"], undefined]);
});

Deno.test("pruneNewsScript() removes what is older than a day, and minds no missing folder", async () => {
  await using cluster = await TestCluster.create();
  const script = pruneNewsScript("it's mine/work");
  await cluster.run(script);
  const folder = `${cluster.home}/it's mine/work/.news`;
  await Deno.mkdir(folder, { recursive: true });
  for (const [name, ageHours] of [["old", 49], ["new", 1]] as const) {
    await Deno.writeTextFile(`${folder}/${name}`, "");
    const seconds = Date.now() / 1_000 - ageHours * 3_600;
    await Deno.utime(`${folder}/${name}`, seconds, seconds);
  }
  await cluster.run(script);
  assertEquals((await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name), ["new"]);
});
