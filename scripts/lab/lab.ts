import { basename, dirname } from "@std/path";
import { installPrerequisites } from "./debian.ts";
import * as hosts from "./hosts.ts";
import type { HostPlan, RunningHost } from "./hosts.ts";
import { LAB_IMAGES, pushImages } from "./images.ts";
import { withLock } from "./lock.ts";
import { LOGIN_USER, makeUser, SSHD_CONF, startSshd } from "./login.ts";
import { checkSubnetIsFree, connect, disconnect } from "./network.ts";
import { type CommandResult, killTree, runOk } from "./process.ts";
import { type Progress, step } from "./progress.ts";
import {
  registriesConf,
  REGISTRY_CREDENTIALS,
  REGISTRY_PORTS,
  registryConfig,
  startRegistry,
} from "./registry.ts";
import { ensureRoot, exists, remove, rootHash } from "./root.ts";
import * as settings from "./settings.ts";
import { addressOf, HOST_NAMES, type HostName, KNODE_PATHS, type LabOptions } from "./settings.ts";
import { type ExecOptions, HostShell } from "./shell.ts";
import { CGROUP_CONF, MUNGE_KEY_BYTES, slurmConf, startSlurm } from "./slurm.ts";

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
  /** The process on the machine; its streams are as they were asked for. */
  readonly child: Deno.ChildProcess;
  /** Kills the program and all that it started in its process tree, and waits for its end. */
  kill(): Promise<void>;
}

/** Where a long-lived program's streams go; /dev/null unless told. */
export interface SpawnOptions extends hosts.EnterOptions {
  stdin?: "piped" | "null" | "inherit";
  stdout?: "piped" | "null" | "inherit";
  stderr?: "piped" | "null" | "inherit";
}

/** What a lab's hosts are doing. */
export interface LabStatus {
  /** `broken`: a host or a service is missing; `up` makes it whole again. */
  state: "up" | "down" | "broken";
  hosts: { name: HostName; address: string; running: boolean }[];
  /** `sinfo`'s table; empty unless the lab is up. */
  partitions: string;
}

/** The cluster's hosts share the user and /home; they are tied to the controller. */
const CLUSTER = ["ctl", "n1", "n2"] as const;

/**
 * A real Slurm cluster, a registry and a Kubernetes node on this machine, as hosts made of namespaces.
 * They outlive the program that starts them, and end with {@link Lab.down}.
 */
export class Lab {
  readonly settings: settings.LabSettings;
  readonly login: Login;
  /** The registry as the hosts see it, with its port. */
  readonly registry: string;
  /** The same images behind a name and a password. */
  readonly guardedRegistry: { address: string; username: string; password: string };
  /** The same registry without a port; what docker.io's names resolve to as well. */
  readonly registryName = settings.REGISTRY_NAME;
  /** The images in the registry: repository and tag. */
  readonly images = { busybox: LAB_IMAGES.busybox.name, entry: LAB_IMAGES.entry.name };
  /** The deno binary inside the Kubernetes node; {@link KNODE_PATHS} has the rest. */
  readonly knodeDeno = `${KNODE_PATHS.denoFolder}/${basename(Deno.execPath())}`;

  constructor(options: LabOptions = {}, private readonly progress: Progress = () => {}) {
    this.settings = settings.labSettings(options);
    this.registry = `${this.address("registry")}:${REGISTRY_PORTS.numbered}`;
    this.guardedRegistry = {
      address: `${this.address("registry")}:${REGISTRY_PORTS.guarded}`,
      ...REGISTRY_CREDENTIALS,
    };
    this.login = {
      host: this.address("ctl"),
      port: 22,
      user: LOGIN_USER.name,
      password: LOGIN_USER.password,
      privateKeyPath: `${this.settings.folder}/login-key`,
    };
  }

  /** A host's address; the machine's own in the lab's network is `machine`. */
  address(host: HostName | "machine"): string {
    return addressOf(this.settings, host);
  }

  /** A host's path as a path on the machine; not for what is mounted there (/usr, /dev, /home of the cluster). */
  path(host: HostName, hostPath: string): string {
    return `${this.settings.folder}/hosts/${host}/root${hostPath}`;
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
    await Deno.mkdir(this.settings.cache, { recursive: true });
    await withLock(
      `${this.settings.cache}/labs/${this.settings.name}.lock`,
      this.progress,
      async () => {
        if (await this.isUpAsPlanned()) {
          this.progress(`The lab "${this.settings.name}" is up already`);
          return;
        }
        const installed = await installPrerequisites();
        if (installed.length > 0) this.progress(`Installed ${installed.join(", ")}`);
        const base = await ensureRoot(this.settings.cache, this.progress);
        await this.clear();
        await step(
          this.progress,
          `Starting the lab "${this.settings.name}"`,
          () => this.start(base),
        );
      },
    );
  }

  /** Ends every process of the lab and removes its namespaces, mounts, interface, cgroups and folder. */
  async down(): Promise<void> {
    await withLock(
      `${this.settings.cache}/labs/${this.settings.name}.lock`,
      this.progress,
      async () => {
        await step(this.progress, `Removing the lab "${this.settings.name}"`, () => this.clear());
      },
    );
  }

  /** Looks at every host and asks the controller. */
  async status(): Promise<LabStatus> {
    const list = await Promise.all(HOST_NAMES.map(async (name) => ({
      name,
      address: this.address(name),
      running: await this.find(name) !== undefined,
    })));
    const running = list.filter((host) => host.running).length;
    if (running === 0) return { state: "down", hosts: list, partitions: "" };
    const whole = running === list.length && await exists(this.upFile);
    const sinfo = whole ? await this.exec("ctl", ["sinfo"], { timeoutMs: 10_000 }) : undefined;
    const healthy = sinfo?.code === 0 && await this.acceptsLogins();
    return { state: healthy ? "up" : "broken", hosts: list, partitions: sinfo?.stdout ?? "" };
  }

  /**
   * Runs a program in a host to its end, with a clean environment; 30 s unless told.
   *
   * @throws {Error} when the host does not run or the time is up; a non-zero exit code is a result.
   */
  async exec(host: HostName, argv: string[], options: ExecOptions = {}): Promise<CommandResult> {
    return await (await this.shell(host)).run(argv, options);
  }

  /** Starts a program in a host that runs beside the caller, who must `kill` it or wait for its end. */
  async spawn(host: HostName, argv: string[], options: SpawnOptions = {}): Promise<HostProcess> {
    const { stdin = "null", stdout = "null", stderr = "null", ...enter } = options;
    const [program = "", ...args] = hosts.enterArgv((await this.shell(host)).host, argv, enter);
    const child = new Deno.Command(program, { args, stdin, stdout, stderr }).spawn();
    const kill = async () => {
      await killTree(child.pid);
      await child.status;
    };
    return { child, kill };
  }

  /** The logs of a host, or of all, by their paths on the machine. */
  async logPaths(only?: HostName): Promise<string[]> {
    const folders = (only === undefined ? HOST_NAMES : [only])
      .map((host) => `${this.settings.folder}/hosts/${host}`);
    const there = await Promise.all(folders.map(exists));
    const found = folders.filter((_, index) => there[index]);
    if (found.length === 0) return [];
    const logs = [
      "start.log",
      "root/var/log/*.out",
      "root/var/log/slurm/*",
      "root/var/log/*/*.log",
    ];
    const tests = logs.flatMap((log) => ["-o", "-path", `*/hosts/*/${log}`]).slice(1);
    const list = await runOk(["find", ...found, "-type", "f", "-size", "+0", "(", ...tests, ")"]);
    return [...new Set(list.trim().split("\n"))].filter(Boolean).sort();
  }

  /**
   * A host as a place to run things.
   *
   * @throws {Error} when it does not run.
   */
  async shell(host: HostName): Promise<HostShell> {
    const running = await this.find(host);
    if (running === undefined) {
      throw new Error(
        `Cannot reach host ${host} of the lab "${this.settings.name}", as it does not run: ` +
          "start it by `deno task lab up`.",
      );
    }
    return new HostShell(running);
  }

  /** Written last by `up`, with the fingerprint of what was started. */
  private get upFile(): string {
    return `${this.settings.folder}/up`;
  }

  private async find(host: HostName): Promise<RunningHost | undefined> {
    return await hosts.findHost(await this.plan(host, ""));
  }

  /** What a host is made of, from the Debian root `base`. */
  private async plan(name: HostName, base: string): Promise<HostPlan> {
    const { folder, checkout, cache } = this.settings;
    const binds: hosts.Bind[] = [];
    if (CLUSTER.some((host) => host === name)) {
      binds.push({ source: `${folder}/home`, target: "/home", readOnly: false });
    }
    if (name === "knode") {
      binds.push(
        { source: checkout, target: KNODE_PATHS.checkout, readOnly: true },
        { source: dirname(Deno.execPath()), target: KNODE_PATHS.denoFolder, readOnly: true },
        { source: await denoDir(), target: KNODE_PATHS.denoDir, readOnly: false },
        { source: `${cache}/clients`, target: KNODE_PATHS.clients, readOnly: true },
      );
    }
    const cgroup = `multicri-lab-${this.settings.name}-${name}`;
    return { name, folder: `${folder}/hosts/${name}`, base, binds, cgroup };
  }

  /** Changes whenever a lab started now would differ from one started before. */
  private async fingerprint(): Promise<string> {
    const plans = await Promise.all(HOST_NAMES.map((host) => this.plan(host, "")));
    return JSON.stringify([
      await rootHash(),
      plans.map((plan) => hosts.startScript(plan, [])),
      [
        settings.hostsFile(this.settings),
        registriesConf(this.settings),
        Object.values(REGISTRY_PORTS).map(registryConfig),
      ],
      [slurmConf(this.settings), CGROUP_CONF, SSHD_CONF, LOGIN_USER, LAB_IMAGES],
    ]);
  }

  private async isUpAsPlanned(): Promise<boolean> {
    if ((await this.status()).state !== "up") return false;
    return await Deno.readTextFile(this.upFile) === await this.fingerprint();
  }

  private async acceptsLogins(): Promise<boolean> {
    try {
      (await Deno.connect({ hostname: this.login.host, port: this.login.port })).close();
      return true;
    } catch {
      return false;
    }
  }

  private async clear(): Promise<void> {
    await disconnect(this.settings.machineInterface);
    for (const name of HOST_NAMES) await hosts.stopHost(await this.plan(name, ""));
    await remove(this.settings.folder);
  }

  private async start(base: string): Promise<void> {
    const { folder, cache, machineInterface, subnet } = this.settings;
    await checkSubnetIsFree(subnet);
    await Deno.mkdir(`${folder}/home`, { recursive: true });
    await Deno.mkdir(`${cache}/clients`, { recursive: true });
    const shells = await this.startHosts(base);
    const leg = (name: HostName) => ({
      init: shells[name].host.init,
      address: this.address(name),
    });
    const others = HOST_NAMES.filter((name) => name !== "registry").map(leg);
    await connect(leg("registry"), others, {
      interface: machineInterface,
      address: this.address("machine"),
    });
    const mungeKey = crypto.getRandomValues(new Uint8Array(MUNGE_KEY_BYTES));
    await Promise.all([
      this.startCluster(shells, mungeKey),
      this.fillRegistry(shells.registry, base),
    ]);
    await Deno.writeTextFile(this.upFile, await this.fingerprint());
  }

  private async startHosts(base: string): Promise<Record<HostName, HostShell>> {
    const entries = await Promise.all(HOST_NAMES.map(async (name) => {
      const plan = await this.plan(name, base);
      await hosts.makeRoot(plan);
      const shell = new HostShell(await hosts.startHost(plan));
      await shell.write("/etc/hosts", settings.hostsFile(this.settings));
      await shell.write("/etc/hostname", `${name}\n`);
      // No name server: what /etc/hosts does not know is unknown at once.
      await shell.write("/etc/resolv.conf", "");
      await shell.write("/etc/containers/registries.conf", registriesConf(this.settings));
      await shell.script(
        "sed -i 's/^systemd cgroups = .*/systemd cgroups = no/' /etc/apptainer/apptainer.conf",
      );
      return [name, shell] as const;
    }));
    return Object.fromEntries(entries) as Record<HostName, HostShell>;
  }

  private async startCluster(
    shells: Record<HostName, HostShell>,
    mungeKey: Uint8Array,
  ): Promise<void> {
    await makeUser(CLUSTER.map((name) => shells[name]));
    const login = async () => {
      const key = await startSshd(shells.ctl, this.login.host);
      await Deno.writeTextFile(this.login.privateKeyPath, key, { mode: 0o600 });
    };
    await Promise.all([startSlurm(this.settings, shells, mungeKey), login()]);
  }

  private async fillRegistry(registry: HostShell, base: string): Promise<void> {
    await startRegistry(registry, this.address("registry"));
    await pushImages(Object.values(LAB_IMAGES), `${base}/usr/bin/busybox`, registry);
  }
}

/** The cache folder of the deno that runs this program. */
async function denoDir(): Promise<string> {
  const info: unknown = JSON.parse(await runOk([Deno.execPath(), "info", "--json"]));
  if (typeof info === "object" && info !== null && "denoDir" in info) return String(info.denoDir);
  throw new Error("Cannot find deno's cache folder: `deno info --json` names no denoDir.");
}
