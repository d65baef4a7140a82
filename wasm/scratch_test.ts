import { assertEquals, assertMatch } from "@std/assert";
import { join } from "@std/path";
import { TestJob } from "./test_job.ts";

/** Tells its argument of --workdir, and leaves in it what only its owner's will can remove. */
const RUNTIME = `printf '%s\\n' "$4"
mkdir -p "$4/tmp/forbidden/deep"
: >"$4/tmp/forbidden/deep/file"
chmod 000 "$4/tmp/forbidden"`;

async function namesIn(folder: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name);
}

/** Makes what a killed job leaves, as old as that is known for certain. */
async function left(job: TestJob, name: string): Promise<string> {
  const path = join(job.root, name);
  await Deno.mkdir(join(path, "tmp"), { recursive: true });
  const then = new Date(Date.now() - 120_000);
  await Deno.utime(path, then, then);
  return path;
}

Deno.test("a job gives the runtime a directory of the node for /tmp, and removes it when it ends", async () => {
  for (
    const [TMPDIR, where] of [[undefined, "ROOT"], ["/nowhere", "/tmp"], ["relative", "/tmp"], [
      "",
      "/tmp",
    ]] as const
  ) {
    await using job = await TestJob.create({ runtime: RUNTIME });
    assertEquals(await job.run("17", TMPDIR === undefined ? {} : { TMPDIR }), 0);
    const scratch = (await job.read("stdout") ?? "").trim();
    const folder = where === "ROOT" ? job.root : where;
    assertEquals(scratch.slice(0, folder.length + 1), `${folder}/`);
    assertMatch(scratch.slice(folder.length), /^\/multicri-\d+\.\S+\.\w{10}$/);
    const name = scratch.slice(folder.length + 1);
    assertEquals((await namesIn(folder)).includes(name), false);
  }
});

Deno.test("a job removes what killed jobs left, and nothing that a job uses or that is not a job's", async () => {
  await using job = await TestJob.create({ runtime: RUNTIME });
  const [uid, node] = [Deno.uid(), Deno.hostname()];
  const old = await left(job, `multicri-${uid}.${node}.killed0000`);
  const used = await left(job, `multicri-${uid}.${node}.used000000`);
  const foreign = await left(job, `multicri-${uid}.other.killed0000`);
  const target = await left(job, "kept");
  await Deno.symlink(target, join(job.root, `multicri-${uid}.${node}.link000000`));
  await Deno.mkdir(join(job.root, `multicri-${uid}.${node}.young00000`));
  const holder = new Deno.Command("flock", {
    args: [used, "sh", "-c", "echo held; exec cat"],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const reader = holder.stdout.getReader();
  await reader.read();
  try {
    assertEquals(await job.run(), 0);
    while ((await namesIn(job.root)).includes(old.slice(job.root.length + 1))) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  } finally {
    await holder.stdin.close();
    await reader.cancel();
    await holder.status;
  }
  const names = await namesIn(job.root);
  const kept = [used, foreign, target].map((path) => path.slice(job.root.length + 1));
  for (const name of kept) assertEquals(names.includes(name), true, name);
  assertEquals(names.includes(`multicri-${uid}.${node}.link000000`), true);
  assertEquals(names.includes(`multicri-${uid}.${node}.young00000`), true);
  assertEquals(await namesIn(target), ["tmp"]);
});

Deno.test("a job whose node has no room for /tmp says so", async () => {
  await using job = await TestJob.create({
    runtime: "echo started",
    programs: { mktemp: "exit 1" },
  });
  assertEquals(await job.run(), 125);
  const { error = "" } = await job.status("exit");
  assertMatch(error, /^no directory for the container's \/tmp can be made in \/\S+ on \S+$/);
  assertEquals(await job.read("stdout"), "");
});

Deno.test("the directory for /tmp is locked as long as its job lives", async () => {
  await using job = await TestJob.create({ runtime: 'echo "$4 $$"; exec sleep 30' });
  const child = job.start();
  let told = "";
  while (!told.endsWith("\n")) {
    await new Promise((resolve) => setTimeout(resolve, 5));
    told = await job.read("stdout") ?? "";
  }
  const [scratch = "", pid] = told.trim().split(" ");
  const command = new Deno.Command("flock", { args: ["--nonblock", scratch, "true"] });
  const isLocked = async () => (await command.output()).code === 1;
  while (!await isLocked()) await new Promise((resolve) => setTimeout(resolve, 5));
  child.kill("SIGKILL");
  await child.status;
  while (await isLocked()) await new Promise((resolve) => setTimeout(resolve, 5));
  Deno.kill(Number(pid), "SIGTERM");
});

Deno.test("a prerun chooses where the directory for /tmp lies", async () => {
  await using job = await TestJob.create({
    runtime: RUNTIME,
    prerun: 'mkdir -p "$TMPDIR/my scratch" && export TMPDIR="$TMPDIR/my scratch"',
  });
  assertEquals(await job.run(), 0);
  const scratch = (await job.read("stdout") ?? "").trim();
  assertMatch(scratch.slice(job.root.length), /^\/my scratch\/multicri-\d+\.\S+\.\w{10}$/);
  assertEquals(await namesIn(join(job.root, "my scratch")), []);
});
