import type { EnterOptions } from "./hosts.ts";
import type { HostProcess, Lab } from "./lab.ts";
import { lastWords } from "./process.ts";
import { waitFor } from "./progress.ts";

const STOP_TIMEOUT_MS = 20_000;

/** What is started. */
export interface NodeProgramSpec extends EnterOptions {
  /** For messages. */
  name: string;
  argv: readonly string[];
  /** Where its output is appended to, as a path in the node. */
  logPath: string;
}

/** When a program counts as started. */
export interface StartLimits {
  /** Whether it is at work. */
  answers: () => Promise<boolean>;
  timeoutMs: number;
}

/** A long-lived program in the lab's Kubernetes node, which dies with the caller's program. */
export class NodeProgram {
  private constructor(
    readonly lab: Lab,
    readonly spec: NodeProgramSpec,
    private readonly process: HostProcess,
  ) {}

  /**
   * Starts a program and waits until `answers` says that it is at work.
   *
   * @throws {Error} when it ends before, with the end of its log, or when the time is up.
   */
  static async start(
    lab: Lab,
    spec: NodeProgramSpec,
    { answers, timeoutMs }: StartLimits,
  ): Promise<NodeProgram> {
    const { name, argv, logPath, ...enter } = spec;
    const shell = 'log="$1"; shift; exec "$@" </dev/null >>"$log" 2>&1';
    const process = await lab.spawn("knode", ["/bin/sh", "-c", shell, "sh", logPath, ...argv], {
      cwd: "/",
      ...enter,
    });
    const program = new NodeProgram(lab, spec, process);
    let ended = false;
    process.child.status.then(() => ended = true);
    try {
      await waitFor(name, async () => {
        if (ended) throw new Error(`${name} ended at once: ${lastWords(await program.log())}`);
        return await answers();
      }, { timeoutMs, log: lab.path("knode", logPath) });
    } catch (error) {
      await program.kill();
      throw error;
    }
    return program;
  }

  /** Ends it as systemd would: SIGTERM, and SIGKILL when that does not end it. */
  async stop(): Promise<void> {
    await this.process.signal("SIGTERM");
    let killed: Promise<void> | undefined;
    const timer = setTimeout(() => killed = this.process.kill(), STOP_TIMEOUT_MS);
    await this.process.child.status;
    clearTimeout(timer);
    await killed;
  }

  /** Ends it by SIGKILL, with all that it started in its process tree. */
  async kill(): Promise<void> {
    await this.process.kill();
  }

  /** Sends it a signal. @throws {Error} when it has ended. */
  async signal(signal: Deno.Signal): Promise<void> {
    if (await this.process.signal(signal)) return;
    throw new Error(`Cannot send ${signal} to ${this.spec.name}, as it has ended.`);
  }

  /** What it has logged. */
  log(): Promise<string> {
    return Deno.readTextFile(this.lab.path("knode", this.spec.logPath));
  }
}
