import { dirname } from "@std/path";
import {
  type Bind,
  type HostPlace,
  type HostPlan,
  makeRoot,
  startHost,
  startScript,
} from "./hosts.ts";
import { LAB_IMAGES, pushImages } from "./images.ts";
import { LOGIN_USER, makeUser, sshdConf, startSshd } from "./login.ts";
import { checkSubnetIsFree, connect } from "./network.ts";
import { runOk } from "./process.ts";
import {
  registriesConf,
  REGISTRY_CREDENTIALS,
  REGISTRY_PORTS,
  registryConfig,
  startRegistry,
} from "./registry.ts";
import { oldClusterRoot } from "./old_cluster.ts";
import { LAB_ROOT, rootHash, rootPath, type RootRecipe } from "./root.ts";
import {
  addressOf,
  clusterHome,
  HOST_NAMES,
  type HostName,
  hostsFile,
  KNODE_PATHS,
  type LabSettings,
  loginKeyPath,
} from "./settings.ts";
import { HostShell } from "./shell.ts";
import { cgroupConf, MUNGE_KEY_BYTES, slurmConf, startSlurm } from "./slurm.ts";

/** The cluster's hosts: they have the user, and one /home as if by NFS. */
const CLUSTER = ["ctl", "n1", "n2"] as const;

type Shells = Record<HostName, HostShell>;

/** Where a host is kept. */
export function placeOf(settings: LabSettings, name: HostName): HostPlace {
  return { name, folder: `${settings.folder}/hosts/${name}` };
}

/** What the cluster's hosts are made of. */
export async function clusterRecipe({ cluster, cache }: LabSettings): Promise<RootRecipe> {
  return cluster === "old" ? oldClusterRoot(await rootPath(LAB_ROOT, cache)) : LAB_ROOT;
}

/** The Debian roots that a lab's hosts are made from; of a new cluster they are the same. */
export interface LabRoots {
  base: string;
  /** Of ctl, n1 and n2. */
  cluster: string;
}

/** What a host is made of. */
async function planOf(settings: LabSettings, name: HostName, roots: LabRoots): Promise<HostPlan> {
  const binds: Bind[] = [];
  const isCluster = CLUSTER.some((host) => host === name);
  if (isCluster) {
    binds.push({ source: clusterHome(settings), target: "/home", readOnly: false });
  }
  if (name === "knode") {
    binds.push(
      { source: settings.checkout, target: KNODE_PATHS.checkout, readOnly: true },
      { source: dirname(Deno.execPath()), target: KNODE_PATHS.denoFolder, readOnly: true },
      { source: await denoDir(), target: KNODE_PATHS.denoDir, readOnly: false },
      { source: settings.clients, target: KNODE_PATHS.clients, readOnly: true },
    );
  }
  const cgroup = `multicri-lab-${settings.name}-${name}`;
  const base = isCluster ? roots.cluster : roots.base;
  return { ...placeOf(settings, name), base, binds, cgroup };
}

/** The cache folder of the deno that runs this program. */
async function denoDir(): Promise<string> {
  const info: unknown = JSON.parse(await runOk([Deno.execPath(), "info", "--json"]));
  if (typeof info === "object" && info !== null && "denoDir" in info) return String(info.denoDir);
  throw new Error("Cannot find deno's cache folder: `deno info --json` names no denoDir.");
}

/** Changes whenever a lab started now would differ from one started before. */
export async function fingerprint(settings: LabSettings): Promise<string> {
  const noRoots = { base: "", cluster: "" };
  const plans = await Promise.all(HOST_NAMES.map((host) => planOf(settings, host, noRoots)));
  return JSON.stringify([
    [await rootHash(LAB_ROOT), await rootHash(await clusterRecipe(settings))],
    plans.map((plan) => startScript(plan, [])),
    [hostsFile(settings), registriesConf(settings), REGISTRY_CREDENTIALS],
    Object.values(REGISTRY_PORTS).map(registryConfig),
    [slurmConf(settings), cgroupConf(settings), sshdConf(settings), LOGIN_USER, LAB_IMAGES],
  ]);
}

/**
 * Starts everything in a folder that holds nothing yet.
 *
 * @throws {Error} a sentence that names what did not come up and the log to read.
 */
export async function startLab(settings: LabSettings, roots: LabRoots): Promise<void> {
  await checkSubnetIsFree(settings.subnet);
  await Deno.mkdir(clusterHome(settings), { recursive: true });
  await Deno.mkdir(settings.clients, { recursive: true });
  const shells = await startHosts(settings, roots);
  const leg = (name: HostName) => ({
    init: shells[name].host.init,
    address: addressOf(settings, name),
  });
  await connect(leg("registry"), HOST_NAMES.filter((name) => name !== "registry").map(leg), {
    interface: settings.machineInterface,
    address: addressOf(settings, "machine"),
  });
  await Promise.all([startCluster(settings, shells), fillRegistry(settings, shells, roots.base)]);
}

async function startHosts(settings: LabSettings, roots: LabRoots): Promise<Shells> {
  const start = async (name: HostName) => {
    const plan = await planOf(settings, name, roots);
    await makeRoot(plan);
    const shell = new HostShell(await startHost(plan));
    await shell.write("/etc/hosts", hostsFile(settings));
    await shell.write("/etc/hostname", `${name}\n`);
    // No name server: what /etc/hosts does not know is unknown at once.
    await shell.write("/etc/resolv.conf", "");
    await shell.write("/etc/containers/registries.conf", registriesConf(settings));
    // systemd is not the first process here, so Apptainer makes cgroups itself.
    await shell.script(
      "sed -i 's/^systemd cgroups = .*/systemd cgroups = no/' /etc/apptainer/apptainer.conf",
    );
    return shell;
  };
  const [registry, ctl, n1, n2, knode] = await Promise.all(
    [
      ...[start("registry"), start("ctl"), start("n1"), start("n2"), start("knode")],
    ] as const,
  );
  return { registry, ctl, n1, n2, knode };
}

async function startCluster(settings: LabSettings, shells: Shells): Promise<void> {
  await makeUser(CLUSTER.map((name) => shells[name]));
  const login = async () => {
    const key = await startSshd(shells.ctl, settings);
    await Deno.writeTextFile(loginKeyPath(settings), key, { mode: 0o600 });
  };
  const mungeKey = crypto.getRandomValues(new Uint8Array(MUNGE_KEY_BYTES));
  await Promise.all([startSlurm(settings, shells, mungeKey), login()]);
}

async function fillRegistry(settings: LabSettings, shells: Shells, base: string): Promise<void> {
  await startRegistry(shells.registry, addressOf(settings, "registry"));
  await pushImages(Object.values(LAB_IMAGES), `${base}/usr/bin/busybox`, shells.registry);
}
