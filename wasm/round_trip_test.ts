import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { renderEnvironment, type Variable } from "./core.ts";
import { TestJob } from "./test_job.ts";
import { type RandomSource, randomSource, seedFor } from "./test_random.ts";

/** Writes what it was given, as the kernel has it: strings with a NUL behind each. */
const RUNTIME = "cat /proc/$$/environ >environ; cat /proc/$$/cmdline >cmdline";
/** bash, the script's path. */
const WORDS_BEFORE_ARGUMENTS = 2;
/** --silent exec --workdir DIRECTORY --no-eval IMAGE */
const WORDS_BEFORE_PROGRAM = 6;

const PIECES = [
  ...Array.from({ length: 127 }, (_, index) => String.fromCharCode(index + 1)),
  ...["'", "'\\''", '"', "\\", "\\\\", "$(id >&2)", "`id`", "${HOME}", "$$", "\r\n", "\n\n", "!!"],
  ...[
    "\n#SBATCH --uid=0\n",
    "\n#PBS -l x\n",
    "EOF\n",
    "&&",
    "; exit 1;",
    "%s",
    "é",
    "日本語",
    "😀",
  ],
  ...["\u00a0", "\u0085", "\u2028", "\ufeff", "\u{10ffff}", "plain text"],
];

function randomText(random: RandomSource): string {
  return Array.from({ length: random.below(20) }, () => random.pick(PIECES)).join("");
}

async function strings(job: TestJob, path: string): Promise<string[]> {
  const bytes = await Deno.readFile(join(job.directory, path));
  const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  return text.split("\0").slice(0, -1);
}

/** The variables and the program as they would arrive in the container. */
async function arrived(job: TestJob): Promise<{ variables: Map<string, string>; argv: string[] }> {
  const assignments = (await strings(job, "environ"))
    .filter((assignment) => assignment.startsWith("APPTAINERENV_"))
    .map((assignment) => assignment.slice("APPTAINERENV_".length));
  let argv = (await strings(job, "cmdline")).slice(WORDS_BEFORE_ARGUMENTS + WORDS_BEFORE_PROGRAM);
  if (argv[0] === "env") {
    assertEquals(argv[1], "--");
    const program = argv.indexOf("program");
    assignments.push(...argv.slice(2, program));
    argv = argv.slice(program);
  }
  const variables = new Map(assignments.map((assignment) => {
    const equals = assignment.indexOf("=");
    return [assignment.slice(0, equals), assignment.slice(equals + 1)];
  }));
  return { variables, argv };
}

async function assertArrives(variables: Variable[], argv: string[], env: Record<string, string>) {
  await using job = await TestJob.create({ runtime: RUNTIME, variables, job: { argv } });
  assertEquals(await job.run("17", env), 0);
  const found = await arrived(job);
  assertEquals(found.argv, argv);
  assertEquals(found.variables, new Map(variables.map(({ name, value }) => [name, value])));
}

Deno.test("random arguments and variables come out of bash unchanged", async () => {
  const seed = seedFor("round trip");
  const random = randomSource(seed);
  const names = [
    "A",
    "_b",
    "HOME",
    "PATH",
    "IFS",
    "a.b",
    "A-B",
    "-n",
    "1x",
    "a b",
    "a'b$(id)",
    "é",
  ];
  const ROUNDS = 40;
  for (let round = 0; round < ROUNDS; round++) {
    const variables = names.map((name) => ({ name, value: randomText(random) }));
    const argv = ["program", ...Array.from({ length: random.below(12) }, () => randomText(random))];
    const locale = random.pick(["C", "C.UTF-8", "POSIX"]);
    await assertArrives(variables, argv, { LC_ALL: locale });
  }
});

Deno.test("every byte comes out of bash unchanged", async () => {
  const value = PIECES.join("");
  await assertArrives([{ name: "A", value }, { name: "a.b", value }], ["program", value], {});
});

Deno.test("values and arguments of 100 KiB come out of bash unchanged", async () => {
  const random = randomSource(seedFor("large values"));
  let value = "";
  while (value.length < 100 * 1024) value += randomText(random);
  value = value.slice(0, 60 * 1024).toWellFormed();
  const plain = "x'".repeat(50 * 1024);
  const variables = [
    { name: "A", value },
    { name: "B", value: plain },
    { name: "a.b", value },
  ];
  assertEquals(renderEnvironment(variables).viaArgv.includes("a.b"), true);
  await assertArrives(variables, ["program", value, plain], {});
});
