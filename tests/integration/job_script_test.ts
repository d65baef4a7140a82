/** The job script alone, on the lab's real Slurm and Apptainer: what the server relies on. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { delay } from "@std/async/delay";
import { Lab } from "../../scripts/lab/lab.ts";
import {
  type JobScript,
  quoteShell,
  renderEnvironment,
  renderJobScript,
  type Variable,
} from "../../wasm/core.ts";
import { type RandomSource, randomSource, seedFor } from "../../wasm/test_random.ts";

const lab = new Lab();
const JOB_NAME = "job script test";
const POLL_MS = 50;
/** The lab starts a job within about a second; a loaded machine much later. */
const MAX_WAIT_MS = 60_000;

let home = "";
let jobs = 0;

/** Runs a command as the cluster's user on the login host. */
async function onCluster(script: string, stdin?: string): Promise<string> {
  const options = { user: lab.login.user, timeoutMs: MAX_WAIT_MS };
  const argv = ["bash", "-c", script];
  const result = await lab.exec("ctl", argv, stdin === undefined ? options : { ...options, stdin });
  assertEquals(result.code, 0, result.stderr);
  return result.stdout.trim();
}

Deno.test.beforeAll(async () => {
  await lab.up();
  home = await onCluster("mktemp -d ~/job-script-XXXXXX");
  const [user, timeoutMs] = [lab.login.user, MAX_WAIT_MS];
  const build = [
    "apptainer",
    "--silent",
    "build",
    `${home}/busybox.sif`,
    `docker://${lab.images.busybox}`,
  ];
  const built = await lab.exec("n1", build, { user, timeoutMs });
  assertEquals(built.code, 0, built.stderr);
});
Deno.test.afterAll(async () => {
  await onCluster(`scancel --name=${quoteShell(JOB_NAME)}; rm -rf ${quoteShell(home)}`);
});

interface Submitted {
  id: string;
  directory: string;
}

async function submit(
  job: Partial<JobScript> & { argv: string[] },
  variables: Variable[] = [],
): Promise<Submitted> {
  const directory = `${home}/it's job ${jobs++}`;
  const script = renderJobScript({
    jobName: JOB_NAME,
    comment: "test",
    directory,
    options: [],
    environment: [],
    hasPrerun: false,
    usageSeconds: 1,
    runtimeArguments: ["--no-eval", "--containall"],
    image: `${home}/busybox.sif`,
    launcher: [],
    module: "",
    ...job,
  });
  const place = quoteShell(directory);
  await onCluster(`mkdir ${place} && cat >${place}/env`, renderEnvironment(variables).file);
  return { id: await onCluster("sbatch --parsable", script), directory };
}

/** A file's text; undefined when there is none (yet). */
async function read({ directory }: Submitted, file: string): Promise<string | undefined> {
  const { code, stdout } = await lab.exec("ctl", ["cat", `${directory}/${file}`], {
    user: lab.login.user,
    timeoutMs: MAX_WAIT_MS,
  });
  return code === 0 ? stdout : undefined;
}

async function waitFor(job: Submitted, file: string, text: string): Promise<string> {
  const deadline = Date.now() + MAX_WAIT_MS;
  while (true) {
    const found = await read(job, file);
    if (found?.includes(text)) return found;
    if (Date.now() > deadline) {
      const log = await read(job, "slurm.log");
      throw new Error(`${file} of job ${job.id} has no ${text}: ${found}; slurm.log: ${log}`);
    }
    await delay(POLL_MS);
  }
}

/** The exit code in the job's own status file. */
async function exitCode(job: Submitted): Promise<number> {
  return Number(/^code=(\d+)$/m.exec(await waitFor(job, "status/exit", "code="))?.[1]);
}

Deno.test("sbatch reads the job script's options as they were given", async () => {
  const comment = `it's "quoted" \\ $(id) #no; 100% é`;
  const options = [{ name: "partition", value: "held" }, { name: "hold" }];
  const job = await submit({ jobName: 'a "b" #c', comment, options, argv: ["true"] });
  const shown = await onCluster(`scontrol show job ${job.id}; scancel ${job.id}`);
  for (const part of [`JobName=a "b" #c\n`, `Comment=${comment}\n`, "Partition=held"]) {
    // Older ones end the line with a blank.
    assertStringIncludes(shown.replaceAll(" \n", "\n"), part);
  }
  assertStringIncludes(shown, `StdOut=${job.directory}/slurm.log`);
});

Deno.test("a job on the cluster tells exit codes and signals exactly", async () => {
  const table: [string, number][] = [["exit 7", 7], ["kill -9 $$", 137], ["kill -SEGV $$", 139]];
  const submitted = await Promise.all(
    table.map(([script]) => submit({ argv: ["sh", "-c", script] })),
  );
  const missing = await submit({ argv: ["no-such-program"] });
  assertEquals(await Promise.all(submitted.map(exitCode)), table.map(([, code]) => code));
  assertEquals(await exitCode(missing), 255);
  assertStringIncludes(await read(missing, "status/exit") ?? "", '"no-such-program"');
});

Deno.test("TERM to the batch shell reaches the program on the cluster once", async () => {
  const script = `n=0; trap 'n=$((n+1)); echo term $n' TERM; echo ready
    while [ $n -eq 0 ]; do sleep 0.1; done; sleep 0.5; exit $((40 + n))`;
  const job = await submit({ argv: ["sh", "-c", script] });
  await waitFor(job, "stdout", "ready");
  await onCluster(`scancel --signal=TERM --batch ${job.id}`);
  assertEquals(await exitCode(job), 41);
  assertEquals(await read(job, "stdout"), "ready\nterm 1\n");
});

Deno.test("TERM that comes while Apptainer builds the container up is not lost", async () => {
  // At worst the program is killed before it can set its trap; it never goes on to the end.
  const script = "trap 'exit 9' TERM; i=0; while [ $i -lt 600 ]; do sleep 0.1; i=$((i+1)); done";
  const DELAYS_MS = [0, 40, 80, 120, 160, 200];
  const codes = await Promise.all(DELAYS_MS.map(async (delayMs) => {
    const job = await submit({ argv: ["sh", "-c", script] });
    await waitFor(job, "status/start", "pid=");
    await delay(delayMs);
    await onCluster(`scancel --signal=TERM --batch ${job.id}`);
    return await exitCode(job);
  }));
  assertEquals(codes.filter((code) => code !== 9 && code !== 143), []);
});

Deno.test("a second submission of one container runs nothing on the cluster", async () => {
  const job = await submit({ argv: ["sh", "-c", "echo run"] });
  const copy = quoteShell(`${job.directory}/again.sh`);
  const again = await onCluster(
    `scontrol write batch_script ${job.id} ${copy} >/dev/null && sbatch --parsable --wait ${copy}`,
  );
  assertEquals(await exitCode(job), 0);
  // Either of the two may be the first.
  const ids = [job.id, again];
  const log = await waitFor(job, "slurm.log", "does nothing");
  const [, first = "", second = ""] = /job (\d+) runs .* job (\d+) does nothing/.exec(log) ?? [];
  assertEquals([first, second].toSorted(), ids.toSorted());
  assertEquals(await read(job, "stdout"), "run\n");
});

const PIECES = [
  ...[
    "'",
    '"',
    "\\",
    "\\\\",
    "$",
    "`",
    "$(id)",
    "${HOME}",
    "\n",
    "\r\n",
    "\r",
    "\t",
    " ",
    "!",
    "*",
    "?",
  ],
  ...[
    "#PBS -l x\n",
    "\n#SBATCH --uid=0\n",
    "&&",
    ";",
    "|",
    "<",
    ">",
    "&",
    "~",
    "%s",
    "=",
    "--",
    "\\u000A",
  ],
  ...[
    "é",
    "日本語",
    "😀",
    "\u00a0",
    "\u2028",
    "\x01",
    "\x1b[0m",
    "\x7f",
    "plain",
    "{a,b}",
    "^",
    ",",
  ],
];

function randomText(random: RandomSource): string {
  return Array.from({ length: random.below(12) }, () => random.pick(PIECES)).join("");
}

Deno.test("variables and arguments arrive in the container byte for byte", async () => {
  const random = randomSource(seedFor("container environment"));
  const names = [
    // What Apptainer and its shell in the container give a meaning to, names that are no identifiers …
    ...["A", "e", "key", "i", "HOME", "UID", "EUID", "IFS", "PWD", "PS1", "PROMPT_COMMAND", "LANG"],
    ...[
      "APPTAINER_BIND",
      "SINGULARITY_SHELL",
      "APPTAINERENV_X",
      "SINGULARITYENV_X",
      "PREPEND_PATH",
    ],
    ...["BASH_ENV", "OPTIND", "_", "__script__", "SLURM_JOB_ID", "LD_PRELOAD_X"],
    ...["a.b", "A-B", "-n", "-u", "x y", "1X", "é", "a'b", "$(id)"],
  ];
  const variables = names.map((name) => ({ name, value: randomText(random) }));
  variables.push({ name: "TERM", value: "" }, {
    name: "LARGE",
    value: "it's <100> KiB\n".repeat(7000),
  });
  const words = Array.from({ length: 20 }, () => randomText(random));
  const [environment, command] = await Promise.all([
    submit({ argv: ["cat", "/proc/self/environ"] }, variables),
    submit({ argv: ["sh", "-c", "cat /proc/$$/cmdline; :", "sh", ...words] }, [
      { name: "a.b", value: "1" },
    ]),
  ]);
  assertEquals([await exitCode(environment), await exitCode(command)], [0, 0]);
  const strings = async (job: Submitted) =>
    (await read(job, "stdout") ?? "").split("\0").slice(0, -1);
  const arrived = new Map((await strings(environment)).map((text) => {
    const equals = text.indexOf("=");
    return [text.slice(0, equals), text.slice(equals + 1)];
  }));
  for (const { name, value } of variables) assertEquals(arrived.get(name), value, name);
  assertEquals((await strings(command)).slice(4), words);
  assertEquals([await read(environment, "stderr"), await read(command, "stderr")], ["", ""]);
});
