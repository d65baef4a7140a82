/** MPI jobs over two nodes of the real lab, driven by crictl alone. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { labSettings } from "../../scripts/lab/settings.ts";
import { ensureMpiImage, MPI_PROGRAM } from "../../scripts/lab/mpi_image.ts";
import { Harness, type JobSpec } from "./harness.ts";

const IMAGE = "multicri/local-image.mpi.sif";
const VOLUME = "mpi-images";

let harness: Harness;
Deno.test.beforeAll(async () => {
  harness = await Harness.start({ name: "mpi" });
  const { lab } = harness;
  const sif = await ensureMpiImage(lab, () => {});
  await harness.onCluster(`mkdir -p multi-cri/${VOLUME}`);
  await Deno.link(sif, `${lab.homePath}/multi-cri/${VOLUME}/mpi.sif`);
  await harness.server.crictlOk(["pull", IMAGE]);
});
Deno.test.afterAll(async () => {
  await harness?.onCluster(`rm -rf multi-cri/${VOLUME}`);
  await harness?.stop();
});

/** Two ranks on each of the two nodes. */
function ranks(args: string[], env: Record<string, string> = {}) {
  return {
    image: IMAGE,
    command: [MPI_PROGRAM, ...args],
    annotations: { "multicri.io/volume": VOLUME },
    mounts: [{ host_path: "/mnt/any", container_path: "/multicri" }],
    env: {
      MPI_VERSION: "default",
      JOB_NUM_NODES: "2",
      JOB_NUM_TASKS_NODE: "2",
      // The nodes have other networks too, which lead nowhere.
      OMPI_MCA_btl_tcp_if_include: `${harness.lab.settings.subnet}.0/24`,
      ...env,
    },
  };
}

const EXPECTED_RANKS = [0, 1, 2, 3].map((rank) =>
  `rank ${rank} of 4 on ${rank < 2 ? "n1" : "n2"}, sum 6`
);

Deno.test("an MPI job's ranks run on both nodes and get words and variables as they are", async () => {
  const words = ["a b", ":", "$(id)", "-x"];
  const greeting = "it's\n$HOME";
  const made = await harness.run(ranks(["end", ...words], { GREETING: greeting }));
  const { status } = await harness.exited(made.container);
  const { stdout, stderr } = await harness.logs(made.container);
  assertEquals(status.exitCode, 0, [...stdout, ...stderr].join("\n"));
  // An older launcher than the image's library makes that say so.
  if (harness.lab.settings.cluster === "new") assertEquals(stderr, []);
  assertEquals(stdout.filter((line) => line.startsWith("rank ")).sort(), EXPECTED_RANKS);
  const arguments_ = stdout.filter((line) => line.startsWith("argument "));
  assertEquals(arguments_, words.map((word) => `argument ${word}`));
  assertStringIncludes(stdout.join("\n"), `greeting ${greeting}`);
  await harness.removeCleanly(made);
});

Deno.test("an MPI job ends with the code of the rank that failed", async () => {
  const made = await harness.run(ranks(["fail"]));
  const { status } = await harness.exited(made.container);
  assertEquals([status.exitCode, status.reason], [7, "Error"]);
  await harness.removeCleanly(made);
});

const NEVER_STARTED: readonly [what: string, spec: JobSpec, code: number, says: string][] = [
  ["its command is none", { command: ["/nope"] }, 128, "/nope"],
  [
    "MPI_FLAGS name a program",
    { env: { MPI_VERSION: "default", MPI_FLAGS: "-np 1 true" } },
    125,
    "without having started a rank",
  ],
];
for (const [what, spec, code, says] of NEVER_STARTED) {
  Deno.test(`an MPI job has a start error when ${what}`, async () => {
    const common = ranks(["end"]);
    const made = await harness.run({ ...common, ...spec });
    const { status } = await harness.exited(made.container);
    assertEquals([status.exitCode, status.reason], [code, "StartError"], status.message);
    assertStringIncludes(status.message, says);
    await harness.removeCleanly(made);
  });
}

Deno.test("ranks are refused in a job that the pod's containers share", async () => {
  const { annotations, ...common } = ranks(["end"], { JOB_NUM_NODES: "1" });
  const failure = await harness.create({
    ...common,
    annotations: { ...annotations, "multicri.io/allocation": "pod" },
  }).then(() => "it was created", (error: Error) => error.message);
  assertStringIncludes(failure, "leave out one of both");
});

Deno.test("every rank gets SIGTERM once, and has its grace", async () => {
  const made = await harness.run(ranks(["wait"]));
  await harness.until(made.container, "waiting on all ranks", async () => {
    const { stdout } = await harness.logs(made.container);
    return stdout.filter((line) => line.endsWith(" waits")).length === 4;
  });
  const exec = await harness.server.crictl(["exec", "--sync", made.container, "/bin/true"]);
  assertStringIncludes(exec.stderr, "it is the ranks of an MPI job");
  await harness.server.crictlOk(["stop", "--timeout", "30", made.container]);
  const { status } = await harness.exited(made.container);
  const { stdout } = await harness.logs(made.container);
  const ends = stdout.filter((line) => line.includes("SIGTERM")).sort();
  assertEquals(ends, [0, 1, 2, 3].map((rank) => `rank ${rank} got SIGTERM 1 times`));
  assertEquals(status.exitCode, 9);
  await harness.removeCleanly(made);
});

Deno.test("a job loads the module of MPI_VERSION before its ranks start", async () => {
  const modules = "/etc/environment-modules/modules/openmpi";
  const onNodes = async (script: string) => {
    for (const node of ["n1", "n2"] as const) {
      const { code, stderr } = await harness.lab.exec(node, ["sh", "-euc", script]);
      assertEquals(code, 0, stderr);
    }
  };
  await onNodes(
    `mkdir -p ${modules}; printf '#%%Module\nsetenv MPICH_SITE "the module"\n' >${modules}/9.9`,
  );
  try {
    const made = await harness.run({
      command: ["/bin/sh", "-c", 'echo "$MPICH_SITE"'],
      env: { MPI_VERSION: "9.9", MPI_FLAGS: "-np 2" },
    });
    const { status } = await harness.exited(made.container);
    const { stdout, stderr } = await harness.logs(made.container);
    assertEquals([status.exitCode, stdout], [0, ["the module", "the module"]], stderr.join("\n"));
    await harness.removeCleanly(made);
  } finally {
    await onNodes(`rm -r ${modules}`);
  }
});

Deno.test("a job says so when the module of MPI_VERSION is none", async () => {
  const made = await harness.run(ranks(["end"], { MPI_VERSION: "openmpi/0.0" }));
  const { status } = await harness.exited(made.container);
  assertEquals(status.exitCode, 125);
  assertStringIncludes(status.message, "the module openmpi/0.0 of MPI_VERSION cannot be loaded");
  assert(!(await harness.logs(made.container)).stdout.some((line) => line.startsWith("rank")));
  await harness.removeCleanly(made);
});

Deno.test("srun starts the ranks, each with what it tells them, and their files are their own", async () => {
  const script =
    'echo "$PMI_RANK of $PMI_SIZE on $(hostname)"; cd "$HOME" && touch mine && ls -a; env >env; ' +
    "ls -d multi-cri $MULTICRI_RESULTS_DIR; echo $SLURM_PROCID >&2";
  const made = await harness.run({
    command: ["/bin/sh", "-c", script],
    annotations: { "multicri.io/mpi": "pmi2" },
    env: { MPI_VERSION: "default", MPI_FLAGS: '-n "2" --label', JOB_NUM_NODES: "2" },
  });
  const { status } = await harness.exited(made.container);
  const { stdout, stderr } = await harness.logs(made.container);
  assertEquals(
    stdout.sort(),
    [0, 1].flatMap((rank) => [
      `${rank}: .`,
      `${rank}: ..`,
      `${rank}: /.multicri/results`,
      `${rank}: ${rank} of 2 on n${rank + 1}`,
      `${rank}: mine`,
    ]),
  );
  const words = stderr.filter((line) => !line.includes("No such file")).sort();
  assertEquals(words.slice(0, 2), ["0: 0", "1: 1"]);
  assert(status.exitCode === 0, stderr.join("\n"));
  await harness.removeCleanly(made);
});

Deno.test({
  name: "srun starts ranks that find each other by PMIx, where Slurm has it",
  // Debian's newer Slurm is built without.
  ignore: labSettings().cluster !== "old",
  fn: async () => {
    const made = await harness.run({
      ...ranks(["end"]),
      annotations: { "multicri.io/volume": VOLUME, "multicri.io/mpi": "pmix" },
    });
    const { status } = await harness.exited(made.container);
    const { stdout, stderr } = await harness.logs(made.container);
    assertEquals(status.exitCode, 0, [...stdout, ...stderr].join("\n"));
    assertEquals(stdout.filter((line) => line.startsWith("rank ")).sort(), EXPECTED_RANKS);
    await harness.removeCleanly(made);
  },
});
