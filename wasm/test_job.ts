import { join } from "@std/path";
import { type JobScript, renderEnvironment, renderJobScript, type Variable } from "./core.ts";

/** The programs that a job script may call; the runtime is each test's own. */
const TOOLS = [
  ...[
    "bash",
    "sh",
    "cat",
    "chmod",
    "date",
    "env",
    "find",
    "flock",
    "getconf",
    "grep",
    "kill",
    "ln",
  ],
  ...["mkdir", "mkfifo", "mktemp", "mv", "readlink", "rm", "sleep", "tail", "tr"],
];

/** How long a test waits for a script that takes milliseconds. */
const MAX_WAIT_MS = 30_000;
const POLL_MS = 5;

/** What a test makes a job of; the rest is what every job has. */
export interface TestJobOptions {
  /** Bash text of the container runtime; undefined for none at all. */
  runtime?: string | undefined;
  /** The runtime's file name: `apptainer` unless told. */
  runtimeName?: string;
  /** What it says to `--version`. */
  runtimeVersion?: string;
  /** More programs, found before the machine's own: name and bash text. */
  programs?: Record<string, string>;
  variables?: Variable[];
  prerun?: string;
  job?: Partial<JobScript>;
}

/** A job script in a directory of its own, run by the machine's bash with a fake container runtime. */
export class TestJob implements AsyncDisposable {
  private constructor(
    readonly root: string,
    /** The container's directory. */
    readonly directory: string,
  ) {}

  static async create(options: TestJobOptions): Promise<TestJob> {
    const { runtime, runtimeName = "apptainer", programs = {}, variables = [], prerun } = options;
    const root = await Deno.makeTempDir({ prefix: "multicri-job-" });
    // A name that must be quoted.
    const directory = join(root, "pod", "it's a $dir");
    const binaries = join(root, "bin");
    await Deno.mkdir(directory, { recursive: true });
    await Deno.mkdir(binaries);
    for (const tool of TOOLS.filter((tool) => !Object.hasOwn(programs, tool))) {
      await Deno.symlink(await whichTool(tool), join(binaries, tool));
    }
    const { runtimeVersion = `${runtimeName} version 4.0.0` } = options;
    const tellVersion = `[[ $1 != --version ]] || { echo '${runtimeVersion}'; exit; }
[[ $1 != buildcfg ]] || exit`;
    const files = runtime === undefined
      ? programs
      : { ...programs, [runtimeName]: `${tellVersion}\n${runtime}` };
    for (const [name, text] of Object.entries(files)) {
      await Deno.writeTextFile(join(binaries, name), `#!/bin/bash\n${text}\n`, { mode: 0o755 });
    }
    const image = join(root, "image.sif");
    await Deno.writeTextFile(image, "");
    await Deno.writeTextFile(join(directory, "env"), renderEnvironment(variables).file);
    if (prerun !== undefined) await Deno.writeTextFile(join(directory, "prerun.sh"), prerun);
    const script = renderJobScript({
      jobName: "test",
      comment: "test",
      directory,
      options: [],
      environment: [],
      hasPrerun: prerun !== undefined,
      usageSeconds: 1,
      runtimeArguments: ["--no-eval"],
      image,
      argv: ["program"],
      launcher: [],
      module: "",
      ...options.job,
    });
    await Deno.writeTextFile(join(root, "job.sh"), script);
    return new TestJob(root, directory);
  }

  /** Starts the script as the job of this id, in an environment of `env` and little else. */
  start(jobId = "17", env: Record<string, string> = {}): Deno.ChildProcess {
    return new Deno.Command("/bin/bash", {
      args: [join(this.root, "job.sh")],
      clearEnv: true,
      env: { PATH: join(this.root, "bin"), TMPDIR: this.root, SLURM_JOB_ID: jobId, ...env },
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
  }

  /** Runs the script to its end and returns its exit code. */
  async run(jobId?: string, env?: Record<string, string>): Promise<number> {
    return (await this.start(jobId, env).status).code;
  }

  /** A file's text by its path in the container's directory; undefined when there is none. */
  async read(path: string): Promise<string | undefined> {
    try {
      return await Deno.readTextFile(join(this.directory, path));
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return undefined;
      throw error;
    }
  }

  /** The `key=value` lines of a status file. */
  async status(name: "start" | "exit" | "usage"): Promise<Record<string, string>> {
    const lines = (await this.read(`status/${name}`) ?? "").split("\n").filter((line) =>
      line !== ""
    );
    return Object.fromEntries(lines.map((line) => {
      const equals = line.indexOf("=");
      return [line.slice(0, equals), line.slice(equals + 1)];
    }));
  }

  /** Waits until a file of the container's directory has this text. */
  async waitFor(path: string, text: string): Promise<void> {
    await until(`${path} has ${JSON.stringify(text)}`, async () => await this.read(path) === text);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.root, { recursive: true });
  }
}

/** Waits until `check` returns true; throws when it has not in half a minute. */
export async function until(what: string, check: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + MAX_WAIT_MS;
  while (!await check()) {
    if (Date.now() > deadline) throw new Error(`Waited in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

async function whichTool(name: string): Promise<string> {
  for (const directory of ["/usr/bin", "/bin"]) {
    const path = join(directory, name);
    if (await Deno.stat(path).then(() => true, () => false)) return path;
  }
  throw new Error(`The tests need the program ${name} in /usr/bin or /bin`);
}
