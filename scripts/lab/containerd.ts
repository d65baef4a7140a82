import { ensureClient } from "../clients.ts";
import { Crictl } from "./crictl.ts";
import type { Lab } from "./lab.ts";
import { NodeProgram } from "./node_program.ts";
import type { Progress } from "./progress.ts";
import { REGISTRY_PORTS } from "./registry.ts";

const START_TIMEOUT_MS = 30_000;

/** What tells one containerd of the node from another. */
interface Place {
  name: ContainerdName;
  socketPath: string;
  /** The network of its pods, of no meaning outside the node. */
  podSubnet: string;
  bridge: string;
}

/** One or two are enough to tell runtimes apart. */
const PLACES = {
  containerd: { podSubnet: "10.88.0.0/16", bridge: "cni0" },
  second: { podSubnet: "10.89.0.0/16", bridge: "cni1" },
} as const;

/** The names a containerd of the node can have. */
export type ContainerdName = keyof typeof PLACES;

/** The CRI socket of a containerd, as a path in the node. */
export function containerdSocket(name: ContainerdName): string {
  return `/run/${name}/containerd.sock`;
}

/** Where its pods' network is configured, as a path in the node. */
export function networkFolder(name: ContainerdName): string {
  return `/etc/${name}/net.d`;
}

/** Where Debian has the CNI plugins. */
export const PLUGINS = "/usr/lib/cni";

const placeOf = (name: ContainerdName): Place => ({
  name,
  socketPath: containerdSocket(name),
  ...PLACES[name],
});

/**
 * containerd's configuration. The lab's machine may lack AppArmor, the hugetlb controller and the right
 * to lower OOM scores.
 */
const configOf = ({ name, socketPath }: Place, { pluginDir }: PodNetwork) =>
  `version = 3
root = "/var/lib/${name}"
state = "/run/${name}"
[grpc]
  address = "${socketPath}"
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "registry.k8s.io/pause:3.10"
  [plugins.'io.containerd.cri.v1.images'.registry]
    config_path = "/etc/${name}/certs.d"
[plugins.'io.containerd.cri.v1.runtime']
  disable_apparmor = true
  restrict_oom_score_adj = true
  tolerate_missing_hugetlb_controller = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["${pluginDir}"]
    conf_dir = "${networkFolder(name)}"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      SystemdCgroup = false
`;

/** What gives a containerd's pods their network. */
export interface PodNetwork {
  /** A network configuration list of CNI. */
  configuration: unknown;
  /** Where the plugins lie, as a path in the node. */
  pluginDir: string;
}

/** The pods' network unless told: a bridge in the node, and host ports. */
const networkOf = ({ name, bridge, podSubnet }: Place) => ({
  cniVersion: "1.0.0",
  name: `pods-of-${name}`,
  plugins: [
    {
      type: "bridge",
      bridge,
      isGateway: true,
      ipMasq: true,
      promiscMode: true,
      ipam: {
        type: "host-local",
        ranges: [[{ subnet: podSubnet }]],
        routes: [{ dst: "0.0.0.0/0" }],
      },
    },
    { type: "portmap", capabilities: { portMappings: true } },
  ],
});

/** A containerd in the lab's Kubernetes node; there can be one of each name. */
export interface Containerd {
  /** Its CRI socket, as a path in the node. */
  readonly socketPath: string;
  readonly crictl: Crictl;
  /** Its log, as a path on the machine. */
  readonly logPath: string;
  /** Ends it by SIGKILL; its pods run on. */
  kill(): Promise<void>;
  /** Sends it a signal, as SIGSTOP. */
  signal(signal: Deno.Signal): Promise<void>;
  /** Starts it again after `kill`, with its pods. */
  restart(): Promise<void>;
  /** Removes all pods and ends it. */
  stop(): Promise<void>;
}

/**
 * Starts containerd, without pods of an earlier run. It takes all images from the lab's registry, by the
 * repository's name without its registry's. It dies with the caller's program.
 *
 * @throws {Error} when it does not answer within 30 s; the message names its log.
 */
export async function startContainerd(
  lab: Lab,
  progress: Progress = () => {},
  name: ContainerdName = "containerd",
  network?: PodNetwork,
): Promise<Containerd> {
  const place = placeOf(name);
  const { socketPath } = place;
  const logPath = `/var/log/${name}.log`;
  await ensureClient("crictl", progress);
  await configure(
    lab,
    place,
    network ?? { configuration: networkOf(place), pluginDir: PLUGINS },
  );
  const crictl = new Crictl(lab, socketPath);
  const start = () =>
    NodeProgram.start(lab, {
      name,
      argv: ["containerd", "--config", configPath(place)],
      logPath,
    }, {
      answers: async () => (await crictl.run(["version"])).code === 0,
      timeoutMs: START_TIMEOUT_MS,
    });
  let program = await start();
  const stop = async () => {
    try {
      // A shim outlives containerd, and ends with its pod.
      await crictl.removePods(await crictl.pods());
    } finally {
      await program.stop();
      // The plugin never removes it. There is none when no pod had a network.
      await lab.exec("knode", ["ip", "link", "delete", "dev", place.bridge]);
    }
  };
  try {
    await crictl.removePods(await crictl.pods());
  } catch (error) {
    await program.stop();
    throw error;
  }
  return {
    socketPath,
    crictl,
    logPath: lab.path("knode", logPath),
    kill: () => program.kill(),
    signal: (signal) => program.signal(signal),
    restart: async () => {
      program = await start();
    },
    stop,
  };
}

function configPath({ name }: Place): string {
  return `/etc/${name}/config.toml`;
}

async function configure(lab: Lab, place: Place, network: PodNetwork): Promise<void> {
  const registry = `http://${lab.address("registry")}:${REGISTRY_PORTS.numbered}`;
  const files: Record<string, string> = {
    [configPath(place)]: configOf(place, network),
    [`${networkFolder(place.name)}/10-bridge.conflist`]: JSON.stringify(network.configuration),
    // For every registry that has no folder of its own: none has.
    [`/etc/${place.name}/certs.d/_default/hosts.toml`]:
      `[host."${registry}"]\n  capabilities = ["pull", "resolve"]\n`,
  };
  for (const [path, content] of Object.entries(files)) {
    const target = lab.path("knode", path);
    await Deno.mkdir(target.slice(0, target.lastIndexOf("/")), { recursive: true });
    await Deno.writeTextFile(target, content);
  }
  // Between the pods' bridge and the node's own network.
  await lab.exec("knode", ["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
}
