/**
 * A cluster in a temporary directory: scripts run for real in a shell of this machine, files are local, and
 * Slurm's programs are small fakes that keep their jobs as files.
 */
import { join } from "@std/path";
import type { CriError } from "../../base/error.ts";
import { createLocalExecutor } from "../../executors/local.ts";
import type { RunOptions, RunResult } from "../../executors/executor.ts";
import type { ClusterSession, ScriptOptions } from "../../executors/ssh/session.ts";
import type { ClusterSessions } from "../../executors/ssh/sessions.ts";
import type { SessionState } from "../../executors/ssh/session_state.ts";
import { StreamLines } from "./stream_lines.ts";

const PROGRAMS: Readonly<Record<string, string>> = {
  // `sbatch.fails`: what it says; `sbatch.dies`: the submitting shell is killed once the job is accepted;
  // `sbatch.waits`: it takes until that is removed; `on_sbatch`: what it does first.
  sbatch: `
[ ! -e "$FAKE/on_sbatch" ] || . "$FAKE/on_sbatch"
while [ -e "$FAKE/sbatch.waits" ]; do /bin/sleep 0.01; done
if [ -e "$FAKE/sbatch.fails" ]; then cat "$FAKE/sbatch.fails" >&2; exit 1; fi
for script; do :; done
name=$(sed -n 's/^#SBATCH --job-name="\\(.*\\)"/\\1/p' "$script")
id=$(($(ls "$FAKE/jobs" | wc -l) + 101))
mkdir "$FAKE/jobs/$id"
printf '%s' "$name" >"$FAKE/jobs/$id/name"
printf '%s' 'PENDING|N/A|10||Priority' >"$FAKE/jobs/$id/line"
if [ -e "$FAKE/sbatch.dies" ]; then kill -9 "$SUBMITTER"; exit 1; fi
echo "$id;cluster"`,
  // `squeue.waits`: it takes until that is removed.
  squeue: `
while [ -e "$FAKE/squeue.waits" ]; do /bin/sleep 0.01; done
if [ -e "$FAKE/squeue.fails" ]; then cat "$FAKE/squeue.fails" >&2; exit 1; fi
wanted= all= ids=
for argument; do case $argument in
  --name=*) wanted=\${argument#--name=} ;;
  --states=all) all=yes ;;
  --format=%A) ids=yes ;;
esac; done
partition=$(cat "$FAKE/partition" 2>/dev/null) || partition=main
for job in "$FAKE"/jobs/*; do
  [ -e "$job/line" ] || continue
  id=\${job##*/} line=$(cat "$job/line")
  if [ -z "$all" ]; then case $line in PENDING*|RUNNING*) ;; *) continue ;; esac; fi
  [ -z "$wanted" ] || [ "$(cat "$job/name")" = "$wanted" ] || continue
  if [ -n "$ids" ]; then echo "$id"; else echo "$id|$partition|$line"; fi
done`,
  // A pending job is cancelled; \`on_term\` and \`on_kill\` are what a running one does; \`scancel.says\` is why not.
  scancel: `
if [ -e "$FAKE/scancel.says" ]; then cat "$FAKE/scancel.says" >&2; exit 1; fi
for id; do :; done
line=$(cat "$FAKE/jobs/$id/line") || exit 0
case "$1 $line" in
  --signal=TERM*) [ ! -e "$FAKE/on_term" ] || . "$FAKE/on_term" ;;
  --signal=KILL*) [ ! -e "$FAKE/on_kill" ] || . "$FAKE/on_kill" ;;
  *PENDING*) printf '%s' 'CANCELLED|N/A|10||None' >"$FAKE/jobs/$id/line" ;;
esac`,
  // \`update.says\` is why a job cannot be changed.
  scontrol: `
if [ "$1" = update ] && [ -e "$FAKE/update.says" ]; then cat "$FAKE/update.says" >&2; exit 1; fi
[ "$1" != update ] || exit 0
if [ -e "$FAKE/scontrol.fails" ]; then cat "$FAKE/scontrol.fails" >&2; exit 1; fi
for id; do :; done
if [ -e "$FAKE/jobs/$id/scontrol" ]; then cat "$FAKE/jobs/$id/scontrol"; exit 0; fi
echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1`,
  sacct: `
if [ -e "$FAKE/sacct" ]; then cat "$FAKE/sacct"; exit 0; fi
echo 'Slurm accounting storage is disabled' >&2; exit 1`,
};

export class TestCluster implements AsyncDisposable {
  readonly name = "u@login:22";
  readonly key = "u@login:22#test";
  state: SessionState = { kind: "ready", sinceMs: 0 };
  /** Thrown by every call while set. */
  offline: CriError | undefined;
  /** Each breaks one script that holds `words`: before it runs, while it does, or when its answer is lost. */
  readonly breaks: { words: string; error: CriError; when: "before" | "during" | "after" }[] = [];
  /** Scripts that run on although their connection broke. */
  readonly #abandoned: Promise<unknown>[] = [];
  #disposed = false;

  private constructor(readonly root: string, readonly shell: readonly [string, ...string[]]) {}

  static async create(shell: readonly [string, ...string[]] = ["/bin/sh"]): Promise<TestCluster> {
    const cluster = new TestCluster(await Deno.makeTempDir({ prefix: "cluster-" }), shell);
    for (const directory of ["bin", "fake/jobs", "home"]) {
      await Deno.mkdir(join(cluster.root, directory), { recursive: true });
    }
    for (const [name, script] of Object.entries(PROGRAMS)) await cluster.program(name, script);
    return cluster;
  }

  get home(): string {
    return join(this.root, "home");
  }

  /** Streams have no connections of their own here. */
  readonly lines: StreamLines = new StreamLines(() => this.session, () => {});

  /** This cluster for what wants a session. */
  get session(): ClusterSession {
    return this as unknown as ClusterSession;
  }

  /** Sessions of which every one is this cluster. */
  get sessions(): ClusterSessions {
    const sessions = {
      acquire: () => this.session,
      release: () => {},
      closeAll: () => Promise.resolve(),
    };
    return sessions as unknown as ClusterSessions;
  }

  /** Puts a program in front of the machine's own; it is written down when it is called. */
  async program(name: string, script: string): Promise<void> {
    const text = `#!/bin/sh\nprintf '%s\\n' "${name} $*" >>"$FAKE/calls"${script}\n`;
    await Deno.writeTextFile(join(this.root, "bin", name), text, { mode: 0o755 });
  }

  /** Sets a file that the fake programs look at; without text it is removed. */
  async fake(name: string, text?: string): Promise<void> {
    const path = join(this.root, "fake", name);
    if (text === undefined) await Deno.remove(path, { recursive: true });
    else await Deno.writeTextFile(path, text);
  }

  /** How often a program was called; with `words`, only the calls that hold them. */
  async calls(program: string, words = ""): Promise<number> {
    const calls = await Deno.readTextFile(join(this.root, "fake/calls")).catch(() => "");
    return calls.split("\n").filter((line) =>
      line.startsWith(`${program} `) && line.includes(words)
    )
      .length;
  }

  /** Resolves when a program has been called so often. */
  async called(program: string, times = 1): Promise<void> {
    while (!this.#disposed && await this.calls(program) < times) {
      await new Promise((done) => setTimeout(done, 5));
    }
  }

  /** What squeue says of a job; undefined when there is none. */
  async job(id: string): Promise<string | undefined> {
    return await Deno.readTextFile(join(this.root, "fake/jobs", id, "line")).catch(() => undefined);
  }

  /** Runs a job's script as Slurm does on a compute node. */
  async runJob(id: string, directory: string): Promise<RunResult> {
    return await this.#run(["bash", join(directory, "job.sh")], {
      env: { SLURM_JOB_ID: id, SLURMD_NODENAME: "n1" },
    });
  }

  /** Resolves when the scripts have ended whose connection broke. */
  async abandoned(): Promise<void> {
    await Promise.all(this.#abandoned);
  }

  async run(script: string, options: ScriptOptions = {}): Promise<RunResult> {
    this.#assertOnline();
    const index = this.breaks.findIndex(({ words }) => script.includes(words));
    const [broken] = index === -1 ? [] : this.breaks.splice(index, 1);
    if (broken?.when === "before") throw broken.error;
    const { stdin } = options;
    if (stdin !== undefined && !(stdin instanceof Uint8Array)) throw new Error("not in the fake");
    const result = this.#run([...this.shell, "-c", `export SUBMITTER=$$\n${script}`], {
      stdin: stdin ?? new Uint8Array(),
    });
    if (broken?.when === "during") {
      this.#abandoned.push(result);
      throw broken.error;
    }
    const { code, stdout, stderr } = await result;
    if (broken !== undefined) throw broken.error;
    if (options.onStdout === undefined) return { code, stdout, stderr };
    await options.onStdout(stdout);
    return { code, stdout: new Uint8Array(), stderr };
  }

  async #run(argv: [string, ...string[]], options: RunOptions): Promise<RunResult> {
    const executor = createLocalExecutor({
      baseEnv: {
        PATH: `${join(this.root, "bin")}:/usr/bin:/bin`,
        HOME: this.home,
        FAKE: join(this.root, "fake"),
      },
    });
    return await executor.run(argv, options);
  }

  async stat(path: string): Promise<{ sizeBytes: number } | undefined> {
    this.#assertOnline();
    return await Deno.stat(path).then(({ size }) => ({ sizeBytes: size }), () => undefined);
  }

  async readFile(path: string, maxBytes: number): Promise<Uint8Array | undefined> {
    return await this.readAt(path, 0, maxBytes);
  }

  async readAt(path: string, from: number, maxBytes: number): Promise<Uint8Array | undefined> {
    this.#assertOnline();
    try {
      using file = await Deno.open(path);
      await file.seek(from, Deno.SeekMode.Start);
      const bytes = new Uint8Array(maxBytes);
      let read = 0;
      for (let n: number | null = 0; n !== null && read < maxBytes; read += n ?? 0) {
        n = await file.read(bytes.subarray(read));
      }
      return bytes.subarray(0, read);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
        return undefined;
      }
      throw error;
    }
  }

  async readLink(path: string): Promise<string | undefined> {
    this.#assertOnline();
    return await Deno.readLink(path).catch(() => undefined);
  }

  async remove(path: string): Promise<boolean> {
    this.#assertOnline();
    return await Deno.remove(path).then(() => true, () => false);
  }

  async upload(localPath: string, remotePath: string): Promise<void> {
    this.#assertOnline();
    await Deno.copyFile(localPath, remotePath);
  }

  async connect(): Promise<void> {
    await Promise.resolve();
    this.#assertOnline();
    this.state = { kind: "ready", sinceMs: 0 };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed = true;
    await this.fake("sbatch.waits").catch(() => {});
    await Promise.allSettled(this.#abandoned);
    await Deno.remove(this.root, { recursive: true });
  }

  #assertOnline(): void {
    if (this.offline !== undefined) throw this.offline;
  }
}
