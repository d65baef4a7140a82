import { basename } from "@std/path";
import { installPrerequisites } from "./debian.ts";
import { exists, remove } from "./files.ts";
import { enteringCommand, type EnterOptions, findHost, stopHost } from "./hosts.ts";
import { LAB_IMAGES } from "./images.ts";
import { withLock } from "./lock.ts";
import { LOGIN_USER } from "./login.ts";
import { disconnect } from "./network.ts";
import {
  childrenOf,
  type CommandResult,
  DIE_WITH_PARENT,
  killTree,
  runOk,
  signalIfThere,
} from "./process.ts";
import { type Progress, step, waitFor } from "./progress.ts";
import { REGISTRY_CREDENTIALS, REGISTRY_PORTS } from "./registry.ts";
import { ensureRoot, LAB_ROOT } from "./root.ts";
import * as settings from "./settings.ts";
import { addressOf, HOST_NAMES, type HostName, type LabOptions } from "./settings.ts";
import { acceptsConnections, type ExecOptions, HostShell } from "./shell.ts";
import { nodesAnswer } from "./slurm.ts";
import { clusterRecipe, fingerprint, placeOf, startLab } from "./start.ts";

/** nsenter forks within milliseconds; a loaded machine may need much longer. */
const SPAWN_TIMEOUT_MS = 10_000;

/** What a client needs to log in to the cluster. */
export interface Login {
  host: string;
  port: number;
  user: string;
  password: string;
  /** Path on the machine of an ed25519 private key in OpenSSH's format; there once the lab is up. */
  privateKeyPath: string;
}

/** A long-lived program in a host. */
export interface HostProcess {
  /** The process on the machine; its streams are as they were asked for, its status the program's own. */
  readonly child: Deno.ChildProcess;
  /** Sends a signal to the program; false when it has ended. */
  signal(signal: Deno.Signal): Promise<boolean>;
  /** Kills the program and all that it started in its process tree, and waits for its end. */
  kill(): Promise<void>;
}

/** Where a long-lived program's streams go; /dev/null unless told. */
export interface SpawnOptions extends EnterOptions {
  stdin?: "piped" | "null" | "inherit";
  stdout?: "piped" | "null" | "inherit";
  stderr?: "piped" | "null" | "inherit";
}

/** What a lab's hosts are doing. */
export interface LabStatus {
  /** `broken`: a host or a service is missing; `up` makes it whole again. */
  state: "up" | "down" | "broken";
  hosts: { name: HostName; address: string; running: boolean }[];
}

/**
 * A real Slurm cluster, a registry and a Kubernetes node on this machine, as hosts made of namespaces.
 * They outlive the program that starts them, and end with {@link Lab.down}.
 */
export class Lab {
  readonly settings: settings.LabSettings;
  readonly login: Login;
  /** The registry as the hosts see it, with its port. */
  readonly registry: string;
  /** The same registry without a port. Names of docker.io come from it too. */
  readonly registryName = settings.REGISTRY_NAME;
  /** The same images behind a name and a password. */
  readonly guardedRegistry: { address: string; username: string; password: string };
  /** The images in the registry: repository and tag. */
  readonly images = { busybox: LAB_IMAGES.busybox.name, entry: LAB_IMAGES.entry.name };
  /** The deno binary inside the Kubernetes node; `KNODE_PATHS` has the rest. */
  readonly knodeDeno = `${settings.KNODE_PATHS.denoFolder}/${basename(Deno.execPath())}`;

  /** What the launcher needs there to run from the checkout. */
  get knodeEnv(): Record<string, string> {
    return { DENO_DIR: settings.KNODE_PATHS.denoDir, MULTICRI_DENO: this.knodeDeno };
  }

  constructor(options: LabOptions = {}, private readonly progress: Progress = () => {}) {
    this.settings = settings.labSettings(options);
    const registry = this.address("registry");
    this.registry = `${registry}:${REGISTRY_PORTS.numbered}`;
    const address = `${registry}:${REGISTRY_PORTS.guarded}`;
    this.guardedRegistry = { address, ...REGISTRY_CREDENTIALS };
    this.login = {
      host: this.address("ctl"),
      port: 22,
      user: LOGIN_USER.name,
      password: LOGIN_USER.password,
      privateKeyPath: settings.loginKeyPath(this.settings),
    };
  }

  /** A host's address; the machine's own in the lab's network is `machine`. */
  address(host: HostName | "machine"): string {
    return addressOf(this.settings, host);
  }

  /**
   * A host's path as a path on the machine. It does not lead to what is mounted in the host: /usr, /dev,
   * `KNODE_PATHS`, and the cluster's /home, for which there is {@link homePath}.
   */
  path(host: HostName, hostPath: string): string {
    return `${placeOf(this.settings, host).folder}/root${hostPath}`;
  }

  /** The cluster user's home folder as a path on the machine. */
  get homePath(): string {
    return `${settings.clusterHome(this.settings)}/${LOGIN_USER.name}`;
  }

  /**
   * Brings the lab up: nothing when it is up and healthy; else what is left of an earlier one is removed
   * and all is started afresh. Calls from several programs wait for each other.
   *
   * @throws {Error} a sentence that names what did not come up and the log to read.
   */
  async up(): Promise<void> {
    if (Deno.build.os !== "linux" || Deno.uid() !== 0) {
      throw new Error(
        "The lab needs Linux namespaces and mounts, so it must be run as root on Linux.",
      );
    }
    await this.alone(async () => {
      if (await this.isUpAsPlanned()) {
        this.progress(`The lab "${this.settings.name}" is up already`);
        return;
      }
      await installPrerequisites(this.progress);
      const { cache } = this.settings;
      const roots = {
        base: await ensureRoot(LAB_ROOT, cache, this.progress),
        cluster: await ensureRoot(await clusterRecipe(this.settings), cache, this.progress),
      };
      await this.clear();
      await step(this.progress, `Starting the lab "${this.settings.name}"`, async () => {
        await startLab(this.settings, roots);
        await Deno.writeTextFile(this.upFile, await fingerprint(this.settings));
      });
    });
  }

  /** Ends every process of the lab and removes its namespaces, mounts, interface, cgroups and folder. */
  async down(): Promise<void> {
    await this.alone(async () => {
      await step(this.progress, `Removing the lab "${this.settings.name}"`, () => this.clear());
    });
  }

  /** Looks at every host and asks its services. */
  async status(): Promise<LabStatus> {
    const list = await Promise.all(HOST_NAMES.map(async (name) => ({
      name,
      address: this.address(name),
      running: await findHost(placeOf(this.settings, name)) !== undefined,
    })));
    const running = list.filter((host) => host.running).length;
    if (running === 0) return { state: "down", hosts: list };
    const healthy = running === list.length && await exists(this.upFile) &&
      await this.servicesAnswer();
    return { state: healthy ? "up" : "broken", hosts: list };
  }

  /**
   * Runs a program in a host to its end, with a clean environment; 30 s unless told.
   *
   * @throws {Error} when the host does not run or the time is up; a non-zero exit code is a result.
   */
  async exec(host: HostName, argv: string[], options: ExecOptions = {}): Promise<CommandResult> {
    return await (await this.shell(host)).run(argv, options);
  }

  /**
   * Starts a program in a host that runs beside the caller, who must `kill` it or wait for its end. It
   * dies with the caller's program.
   */
  async spawn(host: HostName, argv: string[], options: SpawnOptions = {}): Promise<HostProcess> {
    const { stdin = "null", stdout = "null", stderr = "null", ...enter } = options;
    const command = enteringCommand((await this.shell(host)).host, argv, enter);
    const [program = "", ...args] = [...DIE_WITH_PARENT, ...command.argv];
    const { env } = command;
    const streams = { stdin, stdout, stderr };
    const child = new Deno.Command(program, { args, env, clearEnv: true, ...streams }).spawn();
    let ended = false;
    const end = child.status.then(() => ended = true);
    const signal = async (signal: Deno.Signal) => {
      // The child has moved into the host's namespaces and forked, as a pid namespace asks for.
      const [inside] = await childrenOf(child.pid);
      return inside !== undefined && signalIfThere(inside, signal);
    };
    const kill = async () => {
      await killTree(child.pid);
      await end;
    };
    await waitFor(
      `"${argv.join(" ")}" on ${host}`,
      async () => ended || (await childrenOf(child.pid)).length > 0,
      { timeoutMs: SPAWN_TIMEOUT_MS, log: "its output" },
    );
    return { child, signal, kill };
  }

  /** The logs of a host, or of all, by their paths on the machine; empty ones are left out. */
  async logPaths(only?: HostName): Promise<string[]> {
    const folders = (only === undefined ? HOST_NAMES : [only])
      .map((host) => placeOf(this.settings, host).folder);
    const there = await Promise.all(folders.map(exists));
    const found = folders.filter((_, index) => there[index]);
    if (found.length === 0) return [];
    const logs = [
      "start.log",
      "root/var/log/*.out",
      "root/var/log/*.log",
      "root/var/log/slurm/*.log",
    ];
    const tests = logs.flatMap((log) => ["-o", "-path", `*/hosts/*/${log}`]).slice(1);
    const list = await runOk(["find", ...found, "-type", "f", "-size", "+0", "(", ...tests, ")"]);
    return list.split("\n").filter(Boolean).sort();
  }

  /** Written last by `up`, with the fingerprint of what was started. */
  private get upFile(): string {
    return `${this.settings.folder}/up`;
  }

  /** @throws {Error} when the host does not run. */
  private async shell(name: HostName): Promise<HostShell> {
    const host = await findHost(placeOf(this.settings, name));
    if (host !== undefined) return new HostShell(host);
    throw new Error(
      `Cannot reach host ${name} of the lab "${this.settings.name}", as it does not run: ` +
        "start it by `deno task lab up`.",
    );
  }

  private async alone(work: () => Promise<void>): Promise<void> {
    await withLock(`${this.settings.folder}.lock`, this.progress, work);
  }

  private async isUpAsPlanned(): Promise<boolean> {
    if ((await this.status()).state !== "up") return false;
    return await Deno.readTextFile(this.upFile) === await fingerprint(this.settings);
  }

  private async servicesAnswer(): Promise<boolean> {
    const answers = await Promise.all([
      acceptsConnections(this.login.host, this.login.port),
      ...Object.values(REGISTRY_PORTS)
        .map((port) => acceptsConnections(this.address("registry"), port)),
      this.shell("ctl").then(nodesAnswer),
    ]);
    return answers.every(Boolean);
  }

  private async clear(): Promise<void> {
    await disconnect(this.settings.machineInterface);
    for (const name of HOST_NAMES) await stopHost(placeOf(this.settings, name));
    await remove(this.settings.folder);
  }
}
