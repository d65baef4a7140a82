import { clientFile, ensureClient } from "../clients.ts";
import type { ControlPlane } from "./control_plane.ts";
import type { Lab } from "./lab.ts";
import { unmountBelow } from "./mounts.ts";
import { NodeService } from "./node_service.ts";
import type { Progress } from "./progress.ts";
import { KNODE_PATHS } from "./settings.ts";

/** The kubelet waits for its runtime; a busy machine starts it slowly. */
const START_TIMEOUT_MS = 60_000;

/** The kubelet's own defaults, here on the node's address, so that tests on the machine can ask. */
const HEALTH_PORT = 10248;
const READ_ONLY_PORT = 10255;
const SERVER_PORT = 10250;

const ROOT_DIR = "/var/lib/kubelet";
const RUN_DIR = "/run/kubelet";
const MANIFEST_DIR = "/etc/kubernetes/manifests";
const POD_LOGS_DIR = "/var/log/pods";
/** The kubelet's links to containers' logs, by other names. */
const CONTAINER_LOGS_DIR = "/var/log/containers";
const CONFIG_PATH = `${RUN_DIR}/config.json`;

/** The node's name in the API. */
export const NODE_NAME = "knode";

/**
 * Kernel settings that the kubelet demands or else sets itself, for the whole machine. It finds files
 * with these values in their place (paths below /proc/sys).
 */
const DEMANDED_SYSCTLS: Readonly<Record<string, number>> = {
  "vm/overcommit_memory": 1,
  "vm/panic_on_oom": 0,
  "kernel/panic": 10,
  "kernel/panic_on_oops": 1,
  "kernel/keys/root_maxkeys": 1_000_000,
  "kernel/keys/root_maxbytes": 25_000_000,
};

/** What is chosen for a kubelet. */
export interface KubeletOptions {
  /** The runtime's CRI socket, as a path in the node. */
  socketPath: string;
  /** Whose pods it runs besides the static ones. */
  controlPlane?: ControlPlane;
  /** How much it logs (klog's -v). */
  verbosity?: number;
  featureGates?: Readonly<Record<string, boolean>>;
  /** More fields of its KubeletConfiguration. */
  config?: Readonly<Record<string, unknown>>;
}

/** The parts of a Pod's status that tests look at, as the kubelet's API writes them. */
export interface PodStatus {
  metadata: { name: string; namespace: string; uid: string };
  status: {
    phase?: string;
    podIP?: string;
    podIPs?: { ip: string }[];
    containerStatuses?: ContainerStatus[];
    initContainerStatuses?: ContainerStatus[];
  };
}

/** The state of one container; exactly one of `state`'s fields is there, at most one of `lastState`'s. */
export interface ContainerStatus {
  name: string;
  ready: boolean;
  restartCount: number;
  image: string;
  imageID: string;
  containerID?: string;
  state: ContainerState;
  /** How its attempt before this one ended. */
  lastState?: ContainerState;
}

interface ContainerState {
  waiting?: { reason?: string; message?: string };
  running?: { startedAt: string };
  terminated?: { exitCode: number; reason?: string; message?: string };
}

/**
 * A kubelet in the lab's Kubernetes node, against a CRI socket there; there can be one at a time. It runs
 * static pods, and those of a control plane when it has one.
 */
export class Kubelet extends NodeService {
  constructor(lab: Lab, readonly options: KubeletOptions) {
    super(lab, "/var/log/kubelet.log");
  }

  /**
   * Starts it and waits until it is healthy. It removes what it does not know from the folder of pods'
   * logs, so nothing else may use that meanwhile.
   *
   * @throws {Error} with the end of its log.
   */
  async start(progress: Progress = () => {}): Promise<void> {
    await ensureClient("kubelet", progress);
    await this.#configure();
    await this.launch({
      name: "The kubelet",
      argv: ["sh", "-euc", startScript(this.#flags())],
    }, {
      answers: async () => {
        const url = (port: number) => `http://${this.lab.address("knode")}:${port}/healthz`;
        return await answers(url(HEALTH_PORT)) && await answers(url(READ_ONLY_PORT));
      },
      timeoutMs: START_TIMEOUT_MS,
    });
  }

  /** Its pods go on running meanwhile, as on any node. */
  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  /**
   * Ends it and removes all that it knew: manifests, volumes, records and logs. The pods that it left in
   * the runtime are the runtime's to remove.
   */
  async remove(): Promise<void> {
    await this.stop();
    await unmountBelow(this.lab, ROOT_DIR);
    const folders = [ROOT_DIR, RUN_DIR, MANIFEST_DIR, POD_LOGS_DIR, CONTAINER_LOGS_DIR];
    await this.lab.exec("knode", ["rm", "-rf", "--one-file-system", ...folders, this.logPath]);
    await this.lab.exec("knode", ["mkdir", "-p", POD_LOGS_DIR]);
  }

  /** Makes a pod of the node's own, or changes it. `manifest` is a Pod of the Kubernetes API. */
  async writeStaticPod(name: string, manifest: unknown): Promise<void> {
    const folder = this.lab.path("knode", MANIFEST_DIR);
    await Deno.mkdir(folder, { recursive: true });
    // The kubelet must never see half a file; it skips names that begin with a dot.
    await Deno.writeTextFile(`${folder}/.${name}`, JSON.stringify(manifest));
    await Deno.rename(`${folder}/.${name}`, `${folder}/${name}.json`);
  }

  /** Takes a static pod away; the kubelet then stops and removes it. */
  async removeStaticPod(name: string): Promise<void> {
    await Deno.remove(this.lab.path("knode", `${MANIFEST_DIR}/${name}.json`));
  }

  /** What it answers at a path of its read-only port. @throws {Error} with what it says instead. */
  async get(path: string): Promise<string> {
    const response = await fetch(`http://${this.lab.address("knode")}:${READ_ONLY_PORT}${path}`);
    const text = await response.text();
    if (!response.ok) throw new Error(`The kubelet answered ${text}`);
    return text;
  }

  /** All pods of the node as the kubelet sees them. */
  async pods(): Promise<PodStatus[]> {
    const { items } = JSON.parse(await this.get("/pods"));
    return items ?? [];
  }

  /** A pod by its name; the kubelet appends the node's name to that of a static pod. */
  async pod(name: string): Promise<PodStatus | undefined> {
    const names = [name, `${name}-${NODE_NAME}`];
    return (await this.pods()).find(({ metadata }) => names.includes(metadata.name));
  }

  #flags(): string[] {
    const { controlPlane, verbosity = 2 } = this.options;
    return [
      `--config=${CONFIG_PATH}`,
      `--root-dir=${ROOT_DIR}`,
      `--cert-dir=${RUN_DIR}/pki`,
      `--hostname-override=${NODE_NAME}`,
      `--node-ip=${this.lab.address("knode")}`,
      `--v=${verbosity}`,
      ...(controlPlane === undefined ? [] : [`--kubeconfig=${controlPlane.kubeconfig}`]),
    ];
  }

  async #configure(): Promise<void> {
    const write = async (path: string, content: string) => {
      const target = this.lab.path("knode", path);
      await Deno.mkdir(target.slice(0, target.lastIndexOf("/")), { recursive: true });
      await Deno.writeTextFile(target, content);
    };
    await Deno.mkdir(this.lab.path("knode", MANIFEST_DIR), { recursive: true });
    for (const [path, value] of Object.entries(DEMANDED_SYSCTLS)) {
      await write(sysctlFile(path), `${value}\n`);
    }
    const config = {
      ...kubeletConfig(this.lab.address("knode"), this.options.socketPath),
      featureGates: this.options.featureGates ?? {},
      ...this.options.config,
    };
    await write(CONFIG_PATH, JSON.stringify(config, null, 1));
  }
}

/** The file that stands in for a kernel setting. */
function sysctlFile(path: string): string {
  return `${RUN_DIR}/sysctl/${path.replaceAll("/", ".")}`;
}

/**
 * Starts the kubelet in a mount namespace whose /proc/sys has the stand-ins, and only that is apart: what
 * the kubelet mounts for pods must reach the runtime.
 */
function startScript(flags: string[]): string {
  const binds = Object.keys(DEMANDED_SYSCTLS)
    .map((path) => `mount --bind ${sysctlFile(path)} /proc/sys/${path}`);
  const kubelet = `${KNODE_PATHS.clients}/${clientFile("kubelet")}`;
  const inside = [
    "mount --make-rprivate /proc",
    ...binds,
    `exec ${[kubelet, ...flags].join(" ")}`,
  ].join("\n");
  return `exec unshare --mount --propagation unchanged sh -euc '${inside}'`;
}

/** KubeletConfiguration (kubelet.config.k8s.io/v1beta1) for a node that is a few namespaces. */
function kubeletConfig(address: string, socketPath: string): Record<string, unknown> {
  const endpoint = `unix://${socketPath}`;
  return {
    apiVersion: "kubelet.config.k8s.io/v1beta1",
    kind: "KubeletConfiguration",
    address,
    port: SERVER_PORT,
    readOnlyPort: READ_ONLY_PORT,
    healthzBindAddress: address,
    healthzPort: HEALTH_PORT,
    authentication: { anonymous: { enabled: true }, webhook: { enabled: false } },
    authorization: { mode: "AlwaysAllow" },
    containerRuntimeEndpoint: endpoint,
    imageServiceEndpoint: endpoint,
    staticPodPath: MANIFEST_DIR,
    podLogsDir: POD_LOGS_DIR,
    volumePluginDir: `${RUN_DIR}/volume-plugins`,
    resolvConf: "",
    // A lab's machine: any cgroup version and swap, no rights over the machine's cgroups and firewall.
    failSwapOn: false,
    failCgroupV1: false,
    cgroupDriver: "cgroupfs",
    cgroupsPerQOS: false,
    enforceNodeAllocatable: [],
    oomScoreAdj: 0,
    makeIPTablesUtilChains: false,
    // A full disk of the machine is no reason to evict.
    evictionHard: {
      "nodefs.available": "0%",
      "imagefs.available": "0%",
      "memory.available": "1Mi",
    },
    imageGCHighThresholdPercent: 100,
    imageGCLowThresholdPercent: 99,
  };
}

/** Whether an http server there answers 200. */
async function answers(url: string): Promise<boolean> {
  try {
    const response = await fetch(url);
    await response.body?.cancel();
    return response.ok;
  } catch (error) {
    // fetch() reports a refused connection so.
    if (error instanceof TypeError) return false;
    throw error;
  }
}
