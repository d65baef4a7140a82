import { assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { CriError } from "../lib/base/error.ts";
import { type JobScript, quoteShell, renderJobScript } from "./core.ts";
import { TestJob, until } from "./test_job.ts";

const TESTDATA = new URL("testdata/", import.meta.url);

const MINIMAL: JobScript = {
  jobName: "multicri-1",
  comment: "multicri",
  directory: "/home/user/multi-cri/sandbox/container",
  options: [],
  environment: [],
  hasPrerun: false,
  usageSeconds: 0,
  runtimeArguments: ["--no-eval", "--containall"],
  image: "/home/user/multi-cri/images/perl.sif",
  argv: ["perl", "-v"],
  launcher: [],
  module: "",
};

/** Text of every kind a pod may try, as the tests in Rust have it. */
const HOSTILE: JobScript = {
  jobName: 'it\'s "a" \\ $(job) #name',
  comment: "100 % `id`",
  directory: "/home/u'ser/%j $(id)/x",
  options: [
    { name: "partition", value: "a b" },
    { name: "hold" },
    { name: "gres", value: 'gpu:"k\\80":2' },
  ],
  environment: [{ name: "SLURM_HINT_X", value: "'; id #" }],
  hasPrerun: true,
  usageSeconds: 10,
  runtimeArguments: ["--no-eval", "--bind", "/a b:/c'd"],
  image: "/images/`id`.sif",
  argv: ["sh", "-c", 'echo "$1"\n#PBS -l x\r\n#SBATCH --uid=0', "'\\''", "", "é\x7f"],
  launcher: ["mpirun", "-x", "A=$(id) 'b'\n"],
  module: "a; id",
};

Deno.test("renderJobScript() writes the golden scripts", async () => {
  for (const [name, job] of [["job_minimal.sh", MINIMAL], ["job_hostile.sh", HOSTILE]] as const) {
    const golden = await Deno.readTextFile(new URL(name, TESTDATA));
    assertEquals(renderJobScript(job), golden, name);
  }
});

Deno.test("renderJobScript() throws for what cannot be written", () => {
  const error = assertThrows(() => renderJobScript({ ...MINIMAL, argv: [] }), CriError);
  assertEquals(error.code, "INVALID_ARGUMENT");
  assertStringIncludes(error.message, "no program");
  const options = [{ name: "wrap", value: "id" }];
  assertThrows(() => renderJobScript({ ...MINIMAL, options }), CriError, "--wrap");
});

Deno.test("bash and shellcheck accept the golden scripts", async () => {
  const scripts = ["job_minimal.sh", "job_hostile.sh"].map((name) =>
    new URL(name, TESTDATA).pathname
  );
  const commands = [
    ...scripts.map((script) => ["bash", "-n", script]),
    // The quoted values of a pod look to it (SC1003, SC2016) as if something were meant by them.
    ["shellcheck", "--exclude=SC1003,SC2016", ...scripts],
  ];
  for (const [program = "", ...args] of commands) {
    const { code, stdout, stderr } = await new Deno.Command(program, { args }).output();
    const words = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
    assertEquals([code, words], [0, ""], program);
  }
});

Deno.test("a job writes start, output, exit and ends with the program's code", async () => {
  await using job = await TestJob.create({
    runtime: `echo out; echo "err $*" >&2; umask; grep SigIgn /proc/self/status; exit 7`,
    job: { argv: ["prog", "a b"] },
  });
  assertEquals(await job.run("17", { SLURMD_NODENAME: "node9" }), 7);
  const start = await job.status("start");
  assertEquals([start.job, start.host], ["17", "node9"]);
  assertMatch(start.pid ?? "", /^\d+$/);
  assertMatch(start.time ?? "", /^\d{10}\.\d{9}$/);
  const exit = await job.status("exit");
  assertEquals([exit.job, exit.code, exit.error], ["17", "7", undefined]);
  assertMatch(exit.time ?? "", /^\d{10}\.\d{9}$/);
  // Neither INT (bit 1) nor QUIT (bit 2) is ignored.
  const [out, umask, ignored = ""] = (await job.read("stdout") ?? "").split("\n");
  assertEquals([out, umask, Number.parseInt(ignored.slice(-1), 16) & 0b110], ["out", "0022", 0]);
  const words = `--no-eval ${join(job.root, "image.sif")} prog a b`;
  const said = await job.read("stderr") ?? "";
  assertMatch(said, /^err --silent exec --workdir \/\S+\/multicri-\d+\.\S+\.\w{10} --no-eval /);
  assertEquals(said.slice(said.indexOf("--no-eval")), `${words}\n`);
  assertEquals(await Deno.readLink(join(job.directory, "status/claim")), "17");
});

Deno.test("a job leaves word when it has begun and when it has ended", async () => {
  const name = "it's a $dir";
  await using job = await TestJob.create({
    runtime: `cd ../../.news; until [[ -e ${
      quoteShell(name)
    } ]]; do sleep 0.01; done; rm ./*; exit 3`,
  });
  await Deno.mkdir(join(job.root, ".news"));
  assertEquals(await job.run(), 3);
  const left = await Array.fromAsync(Deno.readDir(join(job.root, ".news")));
  assertEquals(left.map((file) => file.name), [name]);
});

Deno.test("a job tells 128 + signal when a signal ends the runtime", async () => {
  await using job = await TestJob.create({ runtime: "kill -KILL $$" });
  assertEquals(await job.run(), 137);
  assertEquals((await job.status("exit")).code, "137");
});

Deno.test("a job keeps all output when its program opens /dev/stdout and /dev/stderr by name", async () => {
  const runtime = "for i in 1 2 3; do echo $i; echo o$i >/dev/stdout; echo e$i >/dev/stderr; done";
  await using job = await TestJob.create({ runtime });
  assertEquals(await job.run(), 0);
  assertEquals(
    [await job.read("stdout"), await job.read("stderr")],
    ["1\no1\n2\no2\n3\no3\n", "e1\ne2\ne3\n"],
  );
});

Deno.test("a job has all output in its files when its end is told", async () => {
  await using job = await TestJob.create({
    runtime: "for ((i = 1; i <= 50000; i++)); do echo $i; done; exit 3",
  });
  assertEquals(await job.run(), 3);
  const lines = (await job.read("stdout") ?? "").split("\n");
  assertEquals([lines.length, lines.at(-2)], [50_001, "50000"]);
});

Deno.test("a job's program goes on when the file system takes no output", async () => {
  const runtime =
    "for ((i = 1; i <= 50000; i++)); do echo $i || exit 4; done; echo done >&2; exit 3";
  await using job = await TestJob.create({ runtime });
  await Deno.symlink("/dev/full", join(job.directory, "stdout"));
  assertEquals([await job.run(), await job.read("stderr")], [3, "done\n"]);
});

Deno.test("a job ends when its program left something behind that holds its stdout", async () => {
  const runtime = "sleep 60 & echo $! >../left; echo out";
  await using job = await TestJob.create({ runtime });
  try {
    assertEquals([await job.run(), await job.read("stdout")], [0, "out\n"]);
  } finally {
    await new Deno.Command("kill", { args: [(await job.read("../left") ?? "").trim()] }).output();
  }
});

Deno.test("a second job for the same container changes nothing and ends with 0", async () => {
  await using job = await TestJob.create({ runtime: "echo run; exit 3" });
  assertEquals(await job.run("17"), 3);
  const exit = await job.read("status/exit");
  assertEquals(await job.run("18"), 0);
  assertEquals([await job.read("status/exit"), await job.read("stdout")], [exit, "run\n"]);
});

Deno.test("a requeued run of the same job goes on and keeps the log", async () => {
  await using job = await TestJob.create({ runtime: "echo run; [[ ! -e ../../again ]]" });
  assertEquals(await job.run(), 0);
  await Deno.writeTextFile(join(job.root, "again"), "");
  assertEquals(await job.run(), 1);
  assertEquals([(await job.status("exit")).code, await job.read("stdout")], ["1", "run\nrun\n"]);
});

for (
  const runtimeVersion of ["apptainer version 1.1.0-rc.1", "singularity-ce version 3.10.0", "?"]
) {
  Deno.test(`a job runs its program when the runtime is ${runtimeVersion}`, async () => {
    await using job = await TestJob.create({ runtime: "exit 4", runtimeVersion });
    assertEquals(await job.run(), 4);
  });
}

Deno.test("a job says why the program never ran", async (t) => {
  const runs = "echo ran >ran";
  const cases = [
    { name: "no runtime", error: "neither apptainer nor singularity", code: 125 },
    {
      name: "no image",
      runtime: runs,
      job: { image: "/no/such.sif" },
      error: "/no/such.sif",
      code: 125,
    },
    ...[
      "apptainer version 1.0.3",
      "singularity-ce version 3.9.09",
      "singularity version 3.8.7-1.el8",
    ].map((runtimeVersion) => ({
      name: `the runtime is ${runtimeVersion}`,
      runtime: runs,
      runtimeVersion,
      error: `is too old: it must be Apptainer 1.1, SingularityCE 3.10 or newer`,
      code: 125,
    })),
    {
      name: "prerun exits",
      runtime: runs,
      prerun: "exit 3",
      error: "CLUSTER_CONFIG ended",
      code: 3,
    },
    {
      name: "prerun says why",
      runtime: runs,
      prerun: "{ echo first; echo 'x: not found'; } >slurm.log; false",
      error: "CLUSTER_CONFIG ended with code 1: x: not found",
      code: 1,
    },
    {
      name: "prerun exits 0",
      runtime: runs,
      prerun: "exit 0",
      error: "CLUSTER_CONFIG ended",
      code: 125,
    },
    { name: "prerun fails", runtime: runs, prerun: "false", error: "with code 1", code: 1 },
    {
      name: "runtime fails",
      runtime: "echo 'FATAL:   no such program' >&2; exit 255",
      error: "the container runtime says: no such program",
      code: 255,
    },
    {
      name: "runtime fails and the program's name has a newline",
      runtime: "printf 'FATAL:   stat a\\n: none\\n' >&2; exit 255",
      job: { argv: ["a\n"] },
      error: "the container runtime says: stat a : none",
      code: 255,
    },
  ];
  for (const { name, error, code, ...options } of cases) {
    await t.step(name, async () => {
      await using job = await TestJob.create(options);
      assertEquals(await job.run(), code);
      const exit = await job.status("exit");
      assertEquals(exit.code, `${code}`);
      assertStringIncludes(exit.error ?? "", error);
      assertEquals(await job.read("ran"), undefined);
    });
  }
});

Deno.test("a prerun that bash cannot read ends the job", async () => {
  await using job = await TestJob.create({ runtime: "echo ran >ran", prerun: "if then" });
  // 1 or 2, as bash's version has it.
  const code = await job.run();
  const exit = await job.status("exit");
  assertEquals([exit.code, exit.error], [`${code}`, `CLUSTER_CONFIG ended with code ${code}`]);
  assertEquals([code > 0, await job.read("ran")], [true, undefined]);
});

Deno.test("a job says so when its file env is missing", async () => {
  await using job = await TestJob.create({ runtime: "true" });
  await Deno.remove(join(job.directory, "env"));
  assertEquals(await job.run(), 125);
  assertStringIncludes((await job.status("exit")).error ?? "", "the file env");
});

Deno.test("a job looks at its volumes when nothing but the start of the runtime is left", async () => {
  for (const stdio of [false, true]) {
    await using job = await TestJob.create({
      runtime: "echo started",
      programs: { perl: 'shift 2; exec "$@"' },
    });
    if (stdio) await Deno.writeTextFile(join(job.directory, "stdio.pl"), "");
    const look = 'printf "%s\\n" "${multicri_words[1]} $multicri_mode $(umask)" >looked\n';
    await Deno.writeTextFile(join(job.directory, "volumes.sh"), look);
    assertEquals(await job.run(), 0);
    assertEquals(await job.read("looked"), "--silent job 0022\n");
    await Deno.writeTextFile(
      join(job.directory, "volumes.sh"),
      "multicri_refuse 125 'it is a link'",
    );
    await Deno.remove(join(job.directory, "status"), { recursive: true });
    assertEquals([await job.run(), (await job.status("exit")).error], [125, "it is a link"]);
    assertEquals(await job.read("stdout"), "started\n");
  }
});

Deno.test("a job starts its program by stdio.pl when there is one, and waits for what that leaves", async () => {
  const perl = `printf 'stdio=%s\\n' "$$" >&"$2"
[[ -p stdin ]] && shift 2 && "$@" && { sleep 0.3; echo last >>stdout; }`;
  await using job = await TestJob.create({ runtime: 'echo "${@:5}"', programs: { perl } });
  await Deno.writeTextFile(join(job.directory, "stdio.pl"), "");
  assertEquals(await job.run(), 0);
  assertEquals(await job.read("stdout"), `--no-eval ${job.root}/image.sif program\nlast\n`);
});

Deno.test("a job says so when stdin or tty take perl, which is not there", async () => {
  await using job = await TestJob.create({ runtime: "echo ran >ran" });
  await Deno.writeTextFile(join(job.directory, "stdio.pl"), "");
  assertEquals(await job.run(), 125);
  assertStringIncludes((await job.status("exit")).error ?? "", "stdin and tty take perl");
  assertEquals(await job.read("ran"), undefined);
});

Deno.test("a prerun sets the environment and cannot hurt the rest", async () => {
  await using job = await TestJob.create({
    runtime: 'echo "$SITE $APPTAINERENV_A $APPTAINERENV_SITE"; umask; pwd',
    variables: [{ name: "A", value: "pod's" }],
    prerun: `set -eufo pipefail; IFS=x; cd /; umask 0; wait() { :; }; alias kill=false
      trap 'exit 99' TERM; export SITE=yes APPTAINERENV_A=site APPTAINERENV_SITE=kept; PATH=$PATH:/x`,
  });
  assertEquals(await job.run(), 0);
  assertEquals(await job.read("stdout"), `yes pod's kept\n0022\n${job.directory}\n`);
});

Deno.test("what the submitting shell has for containers does not reach the program", async () => {
  await using job = await TestJob.create({
    runtime: 'echo "[${!APPTAINERENV_@} ${!SINGULARITYENV_@}]"',
  });
  await job.run("17", { APPTAINERENV_X: "1", SINGULARITYENV_Y: "2" });
  assertEquals(await job.read("stdout"), "[ ]\n");
});

Deno.test("a job gives SingularityCE the variables under its own name", async () => {
  await using job = await TestJob.create({
    runtimeName: "singularity",
    runtime: 'printf "%s" "${!APPTAINERENV_@}${!SINGULARITYENV_@}: $SINGULARITYENV_A"',
    variables: [{ name: "A", value: "it's\n$x" }],
  });
  assertEquals(await job.run(), 0);
  assertEquals(await job.read("stdout"), "SINGULARITYENV_A: it's\n$x");
});

Deno.test("a job exports SLURM_ settings and keeps its own id", async () => {
  await using job = await TestJob.create({
    runtime: 'echo "$SLURM_CPU_BIND"',
    job: { environment: [{ name: "SLURM_CPU_BIND", value: "a 'b'\n$c" }] },
  });
  await job.run();
  assertEquals(await job.read("stdout"), "a 'b'\n$c\n");
});

Deno.test("TERM before the start keeps the program from being started", async () => {
  await using job = await TestJob.create({
    runtime: "echo ran >ran",
    programs: { ln: 'kill -TERM $PPID; exec /bin/ln "$@"' },
  });
  assertEquals(await job.run(), 143);
  const exit = await job.status("exit");
  assertEquals([exit.code, exit.error], ["143", "SIGTERM came before the program was started"]);
  assertEquals(await job.read("ran"), undefined);
});

Deno.test("TERM in the prerun ends it and what it runs", async () => {
  await using job = await TestJob.create({
    runtime: "echo ran >ran",
    prerun: "sleep 300 & echo $! >sleeper; wait",
  });
  const child = job.start();
  await until("the prerun runs", async () => await job.read("sleeper") !== undefined);
  child.kill("SIGTERM");
  assertEquals((await child.status).code, 143);
  assertEquals((await job.status("exit")).error, "CLUSTER_CONFIG ended the job");
  assertEquals(await job.read("ran"), undefined);
  const sleeper = `/proc/${(await job.read("sleeper"))?.trim()}/cmdline`;
  // Of a process that has ended, not even the zombie has a command line.
  await until(
    "the sleep is gone",
    async () => await Deno.readTextFile(sleeper).catch(() => "") === "",
  );
});

Deno.test("each signal reaches the runtime as often as it comes", async () => {
  const signals = ["SIGTERM", "SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP", "SIGTERM"] as const;
  await using job = await TestJob.create({
    runtime: `count=0
      for signal in TERM INT HUP USR1; do trap "echo SIG$signal; ((++count))" $signal; done
      echo ready; until ((count == ${signals.length})); do sleep 0.01; done; exit 9`,
  });
  const child = job.start();
  let seen = "ready\n";
  await job.waitFor("stdout", seen);
  for (const signal of signals) {
    child.kill(signal);
    seen += `${signal}\n`;
    await job.waitFor("stdout", seen);
  }
  assertEquals((await child.status).code, 9);
  assertEquals([(await job.status("exit")).code, await job.read("stdout")], ["9", seen]);
});

Deno.test("the exit code is the program's own when TERM comes as it ends", async () => {
  const RUNS = 25;
  for (let run = 0; run < RUNS; run++) {
    // The script is the parent of its keeper, which is the runtime's.
    const runtime =
      "trap : TERM; read -r _ _ _ script _ </proc/$PPID/stat; kill -TERM $script; exit 5";
    await using job = await TestJob.create({ runtime });
    assertEquals([await job.run(), (await job.status("exit")).code], [5, "5"]);
  }
});

Deno.test("a signal is held while the runtime builds the container up", async () => {
  // Apptainer's process is called starter; once its child is called appinit, signals arrive.
  await using job = await TestJob.create({
    runtime: 'exec "${0%/*}/starter"',
    programs: {
      starter: `trap 'echo early' TERM
        mkfifo pipe; exec 3<>pipe; echo up
        until [[ -e go ]]; do read -r -t 0.01 -u 3; done
        trap 'echo late; kill $!; exit 9' TERM
        "\${0%/*}/appinit" & wait`,
      appinit: "while :; do sleep 0.05; done",
    },
  });
  const child = job.start();
  await job.waitFor("stdout", "up\n");
  child.kill("SIGTERM");
  await until("the script waits with the signal", async () => await hasChild(child.pid, "sleep"));
  await Deno.writeTextFile(join(job.directory, "go"), "");
  assertEquals((await child.status).code, 9);
  assertEquals(await job.read("stdout"), "up\nlate\n");
});

/** Whether a process has a child of this name. */
async function hasChild(pid: number, name: string): Promise<boolean> {
  const children = await Deno.readTextFile(`/proc/${pid}/task/${pid}/children`);
  const names = children.trim().split(" ").filter((child) => child !== "").map((child) =>
    Deno.readTextFile(`/proc/${child}/comm`).catch(() => "")
  );
  return (await Promise.all(names)).includes(`${name}\n`);
}
