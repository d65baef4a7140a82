/**
 * A container on this machine that `enter_container.pl` can enter: namespaces by unshare(1), an init process, a
 * program, and the files that a job leaves for it.
 */
import { delay } from "@std/async/delay";
import { join } from "@std/path";
import { READ_PROGRAM } from "./step_script.ts";
import { type Frame, FrameReader } from "../steps/frames.ts";
import { encodeRequest, ENTER_PROGRAM, type EnterRequest } from "./step_programs.ts";

export const JOB_ID = "17";
/** A user without rights, who must not be root for a setuid program to matter. */
export const NOBODY = 65534;
const NONCE = "0123456789abcdef0123456789abcdef";

/** How the program of the container is started: `sh` stays as its init process. */
const START = `
cd "$1"; shift
$ENTER --mount --pid --ipc --uts --fork --kill-child --mount-proc \\
  sh -c 'cd /; umask 077; "$@"; exit 0' sh env -i "$@" </dev/null &
echo "pid=$!" >status/start
read -r end
kill -KILL $! 2>/dev/null
wait
`;

export class TestContainer implements AsyncDisposable {
  private constructor(readonly directory: string, private readonly job: Deno.ChildProcess) {}

  /** Starts `program` with exactly the environment `variables`; \`envFile\` is what the job's file says of it. */
  static async start(options: {
    variables?: string[];
    envFile?: string;
    program?: string[];
    /** What Slurm calls the job in its environment. */
    jobId?: string;
    /** As by a runtime that is installed setuid: its processes are not the user's, and there is no user namespace. */
    setuid?: boolean;
  } = {}): Promise<TestContainer> {
    const directory = await Deno.makeTempDir({ prefix: "container-" });
    await Deno.mkdir(join(directory, "status"));
    await Deno.writeTextFile(
      join(directory, "env"),
      options.envFile ?? "multicri_argv_environment=()\n",
    );
    if (options.setuid === true) {
      await Deno.copyFile("/usr/bin/unshare", join(directory, "starter"));
      await Deno.chmod(join(directory, "starter"), 0o4755);
      await Deno.chmod(directory, 0o755);
      await Deno.chown(join(directory, "status"), NOBODY, NOBODY);
    }
    const { variables = ["PATH=/usr/bin:/bin"], program = ["sleep", "600"] } = options;
    const job = new Deno.Command("/bin/sh", {
      args: ["-c", START, "sh", directory, ...variables, ...program],
      env: {
        SLURM_JOB_ID: options.jobId ?? JOB_ID,
        ENTER: options.setuid === true
          ? join(directory, "starter")
          : "unshare --user --map-root-user",
      },
      ...(options.setuid === true ? { uid: NOBODY } : {}),
      stdin: "piped",
      stdout: "null",
      stderr: "null",
    }).spawn();
    const container = new TestContainer(directory, job);
    await container.#running();
    return container;
  }

  /** Resolves when the program runs in its own environment; until then it has that of the shell it comes from. */
  async #running(): Promise<void> {
    const childOf = async (pid: string) =>
      (await Deno.readTextFile(`/proc/${pid}/task/${pid}/children`)).trim().split(" ")[0] ?? "";
    for (;;) {
      await delay(10);
      try {
        const start = await Deno.readTextFile(join(this.directory, "status/start"));
        const program = await childOf(await childOf(/^pid=(\d+)$/m.exec(start)?.[1] ?? ""));
        const environment = await Deno.readTextFile(`/proc/${program}/environ`);
        if (!environment.includes("ENTER=")) return;
      } catch (error) {
        // It is not there yet.
        if (!(error instanceof Deno.errors.NotFound)) throw error;
      }
    }
  }

  request(argv: string[], changes: Partial<EnterRequest> = {}): EnterRequest {
    return {
      nonce: NONCE,
      jobId: JOB_ID,
      directory: this.directory,
      workingDirectory: "/usr",
      timeoutMs: 0,
      waitMs: 10_000,
      maxOutputBytes: 100_000_000,
      stdio: "none",
      argv,
      ...changes,
    };
  }

  /** Runs a command; when \`abandon\` resolves, its stdin ends. */
  async enter(
    argv: string[],
    changes: Partial<EnterRequest> = {},
    abandon?: Promise<void>,
    uid?: number,
  ): Promise<Entered> {
    const child = new Deno.Command("perl", {
      args: ["-w", "-e", READ_PROGRAM],
      ...(uid === undefined ? {} : { uid }),
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const stdin = child.stdin.getWriter();
    await stdin.write(ENTER_PROGRAM);
    await stdin.write(encodeRequest(this.request(argv, changes)));
    const ended = abandon?.then(() => stdin.close());
    const { code, stdout, stderr } = await child.output();
    if (ended === undefined) await stdin.close().catch(() => {});
    else await ended;
    const noise = new TextDecoder().decode(stderr);
    if (code !== 0 || noise !== "") throw new Error(`ended with ${code}: ${noise}`);
    return await enteredFrom(stdout);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.job.stdin.close();
    await this.job.status;
    await Deno.remove(this.directory, { recursive: true });
  }
}

/** What came back, the output joined. */
export interface Entered {
  stdout: Uint8Array;
  stderr: Uint8Array;
  /** All frames but the output. */
  frames: Frame[];
}

async function enteredFrom(bytes: Uint8Array): Promise<Entered> {
  const frames: Frame[] = [];
  const output: Record<"stdout" | "stderr", Uint8Array<ArrayBuffer>[]> = { stdout: [], stderr: [] };
  const reader = new FrameReader(NONCE, (frame) => {
    if (frame.kind === "stdout" || frame.kind === "stderr") {
      output[frame.kind].push(new Uint8Array(frame.bytes));
    } else frames.push(frame);
  });
  reader.add(bytes);
  return {
    stdout: await new Blob(output.stdout).bytes(),
    stderr: await new Blob(output.stderr).bytes(),
    frames,
  };
}
