import { ensureClient } from "../clients.ts";
import { ENTRY_POINTS } from "../install.ts";
import { Crictl } from "./crictl.ts";
import type { Lab } from "./lab.ts";
import { NodeService } from "./node_service.ts";
import type { CommandResult } from "./process.ts";
import type { Progress } from "./progress.ts";
import { KNODE_PATHS } from "./settings.ts";

/** A cold start compiles TypeScript; later ones take a fraction of a second. */
const START_TIMEOUT_MS = 60_000;

/** What is chosen for a server; everything else is the flags' default. */
export interface NodeServerOptions {
  /** Distinguishes servers in one node: names their socket and directories. */
  name?: string;
  flags?: readonly string[];
  /** Containers that name no cluster get the lab's, by a login that the node keeps. */
  ownLogin?: boolean;
  env?: Record<string, string>;
  /** An installed folder in the node that is started instead of the checkout. */
  installedIn?: string;
}

/**
 * A multicri server in the lab's Kubernetes node, started from the checkout by the launcher, as an
 * administrator would; and crictl to talk to it.
 */
export class NodeServer extends NodeService {
  readonly socketPath: string;
  /** Directories in the node. */
  readonly rootDir: string;
  readonly stateDir: string;
  readonly cachePath: string;
  readonly #crictl: Crictl;

  constructor(lab: Lab, readonly options: NodeServerOptions = {}) {
    const name = options.name ?? "multicri";
    super(lab, `/var/log/${name}.log`);
    this.socketPath = `/run/${name}.sock`;
    this.rootDir = `/var/lib/${name}`;
    this.stateDir = `/run/${name}`;
    this.cachePath = `/var/cache/${name}`;
    this.#crictl = new Crictl(lab, this.socketPath);
  }

  /** The server's command line, as it is run in the node. */
  get argv(): string[] {
    return [
      `${this.options.installedIn ?? KNODE_PATHS.checkout}/scripts/multicri`,
      "-v",
      "4",
      "--socket-path",
      this.socketPath,
      "--root-dir",
      this.rootDir,
      "--state-dir",
      this.stateDir,
      "--resources-cache-path",
      this.cachePath,
      // Several servers may run in one node.
      "--stream-port",
      "0",
      ...(this.options.ownLogin ? ["--clusters-file", this.#clustersPath] : []),
      ...this.options.flags ?? [],
    ];
  }

  get #clustersPath(): string {
    return `/run/${this.options.name ?? "multicri"}-clusters`;
  }

  /** The server's environment: an installed folder brings its own Deno and packages. */
  get env(): Record<string, string> {
    return {
      PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
      HOME: "/root",
      ...(this.options.installedIn === undefined ? this.lab.knodeEnv : {}),
      ...this.options.env,
    };
  }

  /** Starts the server and waits until it answers. @throws Error with the end of its log. */
  async start(): Promise<void> {
    if (this.options.ownLogin) {
      const { host, port, user, password } = this.lab.login;
      const clusters = { lab: { host, port, user, password } };
      const text = JSON.stringify({ default: "lab", clusters });
      await Deno.writeTextFile(this.lab.path("knode", this.#clustersPath), text, { mode: 0o600 });
    }
    await this.launch({
      name: "The multicri server",
      argv: this.argv,
      cwd: KNODE_PATHS.checkout,
      env: this.env,
    }, {
      answers: async () => (await this.crictl(["version"])).code === 0,
      timeoutMs: START_TIMEOUT_MS,
    });
  }

  /** Removes what earlier servers of this name recorded and logged. It must not run. */
  async forget(): Promise<void> {
    await this.lab.exec("knode", ["rm", "-rf", this.rootDir, this.stateDir, this.logPath]);
  }

  /** Its resident memory. */
  async memoryMebibytes(): Promise<number> {
    const script =
      `grep VmRSS "/proc/$(pgrep -o -f "main.ts.*socket-path ${this.socketPath}")/status"`;
    const { stdout } = await this.lab.exec("knode", ["sh", "-c", script]);
    return Math.round(Number(/\d+/.exec(stdout)?.[0] ?? NaN) / 1024);
  }

  /** The command that runs crictl in the node against this server. */
  crictlArgv(args: readonly string[]): string[] {
    return this.#crictl.argv(args);
  }

  /** Runs crictl to its end; a non-zero exit code is a result. */
  async crictl(args: readonly string[], stdin?: string): Promise<CommandResult> {
    return await this.#crictl.run(args, stdin);
  }

  /** As `crictl`, for commands that must succeed. @throws Error with what crictl wrote. */
  async crictlOk(args: readonly string[]): Promise<string> {
    return await this.#crictl.ok(args);
  }

  /** Writes a JSON file into the node's /run and returns its path there. */
  async writeJson(name: string, value: unknown): Promise<string> {
    const path = `/run/${name}`;
    await Deno.writeTextFile(this.lab.path("knode", path), JSON.stringify(value), { mode: 0o600 });
    return path;
  }
}

/** Everything a server in the node needs: the lab, crictl, and the code in Deno's cache. */
export async function prepareNode(lab: Lab, progress: Progress): Promise<void> {
  await lab.up();
  await ensureClient("crictl", progress);
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["cache", "--quiet", ...ENTRY_POINTS],
    cwd: lab.settings.checkout,
    stderr: "piped",
  }).output();
  if (!success) {
    throw new Error(`Cannot load the server's modules: ${new TextDecoder().decode(stderr)}`);
  }
}
