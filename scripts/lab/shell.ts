import { enteringCommand, type EnterOptions, rootFolder, type RunningHost } from "./hosts.ts";
import { type CommandResult, run, type RunOptions, shellWord } from "./process.ts";
import { waitFor } from "./progress.ts";
import { exists } from "./files.ts";

/** How a command is run in a host, to its end. */
export type ExecOptions = Pick<RunOptions, "stdin" | "timeoutMs"> & EnterOptions;

const DAEMON_TIMEOUT_MS = 30_000;

/** A host seen as a place to run commands, start daemons and write files. */
export class HostShell {
  constructor(readonly host: RunningHost) {}

  /** A host's path as a path on the machine; not for what is mounted in the host (/usr, /dev, binds). */
  path(hostPath: string): string {
    return `${rootFolder(this.host.place)}${hostPath}`;
  }

  /** Where the output of a daemon goes that has no log of its own. */
  logPath(daemon: string): string {
    return this.path(`/var/log/${daemon}.out`);
  }

  /** Runs `argv` to its end; throws as `run` of process.ts does. */
  async run(argv: string[], options: ExecOptions = {}): Promise<CommandResult> {
    const { stdin, timeoutMs, ...enter } = options;
    const command = enteringCommand(this.host, argv, enter);
    return await run(command.argv, {
      env: command.env,
      clearEnv: true,
      title: `${argv.join(" ")} on ${this.host.place.name}`,
      ...(stdin === undefined ? {} : { stdin }),
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
    });
  }

  /**
   * Runs `argv` to its end and returns its output.
   *
   * @throws {Error} when it fails.
   */
  async runOk(argv: string[], options: ExecOptions = {}): Promise<string> {
    const { code, stdout, stderr } = await this.run(argv, options);
    if (code === 0) return stdout;
    throw new Error(`A step on host ${this.host.place.name} failed: ${(stderr || stdout).trim()}`);
  }

  /** Runs a sh(1) script as root, which ends at its first failing command; as {@link runOk}. */
  async script(text: string): Promise<string> {
    return await this.runOk(["sh", "-eu", "-c", text]);
  }

  /** Starts a program that stays when this one ends; its output goes to {@link logPath}. */
  async daemon(name: string, argv: string[]): Promise<void> {
    const command = `exec setsid --fork "$@" </dev/null >>${
      shellWord(`/var/log/${name}.out`)
    } 2>&1`;
    await this.runOk(["sh", "-c", command, "sh", ...argv], { cwd: "/" });
  }

  /** Writes a file, and the folders above it, as root. */
  async write(hostPath: string, content: string | Uint8Array, mode = 0o644): Promise<void> {
    const path = this.path(hostPath);
    await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
    if (typeof content === "string") await Deno.writeTextFile(path, content, { mode });
    else await Deno.writeFile(path, content, { mode });
  }

  /** Waits until a daemon has made `hostPath`. */
  async waitForPath(daemon: string, hostPath: string): Promise<void> {
    await waitFor(
      `${daemon} on ${this.host.place.name}`,
      () => exists(this.path(hostPath)),
      { timeoutMs: DAEMON_TIMEOUT_MS, log: this.logPath(daemon) },
    );
  }

  /** Waits until something on the host accepts connections at `port`. */
  async waitForPort(daemon: string, address: string, port: number): Promise<void> {
    await waitFor(
      `${daemon} on ${this.host.place.name}`,
      () => acceptsConnections(address, port),
      { timeoutMs: DAEMON_TIMEOUT_MS, log: this.logPath(daemon) },
    );
  }
}

/** Whether something listens there. */
export async function acceptsConnections(hostname: string, port: number): Promise<boolean> {
  try {
    (await Deno.connect({ hostname, port })).close();
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.ConnectionRefused) return false;
    // EHOSTUNREACH and ENETUNREACH have no class of their own: the network is not there (yet).
    if (error instanceof Error && /unreachable/i.test(error.message)) return false;
    throw error;
  }
}
