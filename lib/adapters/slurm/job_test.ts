import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { CriError } from "../../base/error.ts";
import { ContainerConfig, PodSandboxConfig } from "../../cri/api.generated.ts";
import { type JobFiles, type JobRequest, programArgv, renderJob } from "./job.ts";
import { nothingStaged } from "./staging.ts";

const IMAGE = {
  user: "",
  env: ["PATH=/bin", "LANG=C", "NO_EQUALS", "EMPTY=", "EQUALS=a=b"],
  entrypoint: ["/entry"],
  cmd: ["by", "default"],
  workingDir: "/srv",
  labels: {},
  stopSignal: "",
};

function request(changes: Partial<JobRequest> = {}): JobRequest {
  return {
    containerId: "c1",
    sandboxId: "s1",
    sandbox: PodSandboxConfig.fromPartial({ metadata: { name: "p", namespace: "ns", uid: "u-1" } }),
    config: ContainerConfig.fromPartial({ metadata: { name: "main", attempt: 2 } }),
    image: { config: IMAGE, hasShell: true },
    settings: {
      cluster: {
        kind: "own",
        login: { host: "h", port: 22, user: "u", password: "cluster password" },
      },
      options: [{ name: "partition", value: "short" }, { name: "exclusive" }],
      submitEnvironment: [{ name: "SLURM_DEBUG", value: "1" }],
      ignoredLines: [],
      prerun: "",
      program: [{ name: "LANG", value: "de" }, { name: "TOKEN", value: "token's value" }],
    },
    mapResources: true,
    joinCommands: true,
    usageSeconds: 10,
    directory: "/home/u/it's/s1/c1",
    imagePath: "/home/u/.images/i.sif",
    results: { directory: "/home/u/it's/s1/c1/results" },
    staging: nothingStaged(),
    ...changes,
  };
}

/** The text of a file of the job; empty when there is none. */
function fileOf({ entries }: JobFiles, name: string): string {
  const found = entries.find((entry) => entry.name === name);
  return found?.kind === "file" ? String(found.content) : "";
}

/** What of a job script is not the same in every job. */
const HEAD = `#!/bin/bash
#SBATCH --job-name="multicri-c1"
#SBATCH --comment="multicri id=c1 pod=ns/p uid=u-1 container=main attempt=2"
#SBATCH --output="/home/u/it's/s1/c1/slurm.log"
#SBATCH --open-mode="append"
#SBATCH --no-requeue
#SBATCH --partition="short"
#SBATCH --exclusive
umask 077
multicri_directory='/home/u/it'\\''s/s1/c1'
multicri_image='/home/u/.images/i.sif'
multicri_prerun=no
multicri_usage_seconds=10
multicri_runtime_arguments=('--no-eval' '--containall' '--pwd' '/srv' '--mount' 'type=bind,source=/home/u/it'\\''s/s1/c1/results,destination=/.multicri/results')
multicri_program=('/entry' 'by' 'default')
multicri_launcher=()
multicri_module=''
multicri_job=\${SLURM_JOB_ID:-none}
export SLURM_DEBUG='1'
`;

Deno.test("renderJob() puts options, paths and the program into the script and no values", () => {
  const job = renderJob(request());
  assertEquals([job.name, job.directory], ["multicri-c1", "/home/u/it's/s1/c1"]);
  assertEquals(job.entries.map(({ name }) => name), ["job.sh", "env"]);
  const script = fileOf(job, "job.sh");
  assertEquals(script.split("# From here on")[0], HEAD);
  for (const secret of ["cluster password", "token's value", "/bin'"]) {
    assertEquals(script.includes(secret), false);
  }
});

Deno.test("renderJob() lets the pod's variables win over the image's and adds the results directory", () => {
  const env = fileOf(renderJob(request()), "env");
  const names = [...env.matchAll(/APPTAINERENV_(\w+)=/g)].map(([, name]) => name);
  assertEquals(names.toSorted(), [
    "EMPTY",
    "EQUALS",
    "LANG",
    "MULTICRI_RESULTS_DIR",
    "PATH",
    "TOKEN",
  ]);
  assertStringIncludes(env, "APPTAINERENV_LANG='de'");
  assertStringIncludes(env, "APPTAINERENV_EQUALS='a=b'");
  assertStringIncludes(env, "APPTAINERENV_MULTICRI_RESULTS_DIR='/.multicri/results'");
});

Deno.test("renderJob() writes the prerun as a file of its own", () => {
  const { settings } = request();
  const job = renderJob(request({ settings: { ...settings, prerun: "module load x\n" } }));
  assertEquals(fileOf(job, "prerun.sh"), "module load x\n");
});

Deno.test("renderJob() hands the ranks of an MPI job to its launcher, and shows them each other", () => {
  const { settings } = request();
  const mpi = { launcher: ["mpirun", "-np", "3"], module: "4.1", ranks: "3" };
  const sandbox = PodSandboxConfig.fromPartial({ hostname: "pod" });
  const script = (options: typeof settings.options) =>
    fileOf(renderJob(request({ sandbox, settings: { ...settings, mpi, options } })), "job.sh");
  const plain = script([]);
  for (
    const line of [
      "multicri_launcher=('mpirun' '-np' '3')\nmulticri_module='4.1'\n",
      "('--no-eval' '--cleanenv' '--no-mount' 'home,cwd,hostfs,bind-paths' '--pwd' ",
      '#SBATCH --ntasks="3"\n',
    ]
  ) assertStringIncludes(plain, line);
  assertEquals(plain.includes("'--hostname'"), false);
  assertEquals(
    script([{ name: "ntasks-per-node", value: "2" }]).includes("#SBATCH --ntasks="),
    false,
  );
});

for (const asked of [{ stdin: true }, { tty: true }, { stdin: true, stdinOnce: true, tty: true }]) {
  Deno.test(`renderJob() adds stdio.pl when the container has ${Object.keys(asked).join(", ")}`, () => {
    const { stdin, stdinOnce, tty } = { stdin: false, stdinOnce: false, tty: false, ...asked };
    const config = ContainerConfig.fromPartial({ command: ["x"], ...asked });
    const text = fileOf(renderJob(request({ config })), "stdio.pl");
    assertStringIncludes(text, `= (${[stdin, stdinOnce, tty].map(Number).join(", ")});`);
    assertEquals(fileOf(renderJob(request()), "stdio.pl"), "");
  });
}

const DIRECTORIES: readonly [pod: string, image: string, used: string][] = [
  ["/pod", "/image", "/pod"],
  ["", "/image", "/image"],
  ["", "", "/"],
];

for (const [workingDir, imageDir, used] of DIRECTORIES) {
  Deno.test(`renderJob() starts in '${used}' when the pod says '${workingDir}' and the image '${imageDir}'`, () => {
    const job = renderJob(request({
      config: ContainerConfig.fromPartial({ workingDir }),
      image: { config: { ...IMAGE, workingDir: imageDir }, hasShell: true },
    }));
    assertStringIncludes(fileOf(job, "job.sh"), `'--pwd' '${used}' '--mount'`);
  });
}

interface Words {
  command?: string[];
  args?: string[];
  entrypoint?: string[];
  cmd?: string[];
}

const PROGRAMS: readonly [words: Words, argv: string[]][] = [
  [{ entrypoint: ["e"], cmd: ["c"] }, ["e", "c"]],
  [{ cmd: ["c"] }, ["c"]],
  [{ entrypoint: ["e"] }, ["e"]],
  [{ command: ["k"], entrypoint: ["e"], cmd: ["c"] }, ["k"]],
  [{ command: ["k"], args: ["a"], entrypoint: ["e"], cmd: ["c"] }, ["k", "a"]],
  [{ args: ["a"], entrypoint: ["e"], cmd: ["c"] }, ["e", "a"]],
  [{ args: ["a"], cmd: ["c"] }, ["a"]],
  [{ command: ["k", "", "$(id)"] }, ["k", "", "$(id)"]],
  [{ command: ["a", "&&", "b c"] }, ["/bin/sh", "-c", "'a' && 'b c'"]],
  [{ command: ["a"], args: ["||", "b"] }, ["/bin/sh", "-c", "'a' || 'b'"]],
  [{ args: ["a", "&&", "b"] }, ["/bin/sh", "-c", "'a' && 'b'"]],
  [{ args: ["a", "&&", "b"], entrypoint: ["e"] }, ["e", "a", "&&", "b"]],
  [{ entrypoint: ["e", "&&"], cmd: ["c"] }, ["e", "&&", "c"]],
];

for (const [words, argv] of PROGRAMS) {
  Deno.test(`programArgv() makes ${JSON.stringify(argv)} of ${JSON.stringify(words)}`, () => {
    const { command = [], args = [], entrypoint = [], cmd = [] } = words;
    assertEquals(programArgv({ command, args }, { entrypoint, cmd }, { joinCommands: true }), argv);
  });
}

for (
  const words of [{ command: ["a", "&&", "b"] }, { command: ["a"], args: ["||"] }, { args: ["&&"] }]
) {
  Deno.test(`programArgv() joins nothing of ${JSON.stringify(words)} when that is switched off`, () => {
    const { command, args } = { command: [], args: [], ...words };
    const image = { entrypoint: [], cmd: ["c"] };
    const argv = programArgv({ command, args }, image, { joinCommands: false });
    assertEquals(argv, [...command, ...args]);
  });
}

for (const command of [[], [""], ["&&", "b"]]) {
  Deno.test(`programArgv() refuses ${JSON.stringify(command)} when the image has no program`, () => {
    const error = assertThrows(
      () => programArgv({ command, args: [] }, { entrypoint: [], cmd: [] }, { joinCommands: true }),
      CriError,
    );
    assertEquals(error.code, "INVALID_ARGUMENT");
  });
}

Deno.test("renderJob() refuses ranks in a job that the pod's containers share", () => {
  const mpi = { launcher: ["mpirun"], module: "", ranks: undefined };
  const { settings, sandbox } = request();
  const annotations = { "multicri.io/allocation": "pod" };
  const shared = request({ settings: { ...settings, mpi }, sandbox: { ...sandbox, annotations } });
  const error = assertThrows(() => renderJob(shared), CriError, "multicri.io/allocation");
  assertEquals(error.code, "INVALID_ARGUMENT");
});
