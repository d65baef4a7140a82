import { ensureClient } from "../clients.ts";
import { Crictl } from "./crictl.ts";
import type { Lab } from "./lab.ts";
import { NodeProgram } from "./node_program.ts";
import type { Progress } from "./progress.ts";
import { REGISTRY_PORTS } from "./registry.ts";

const START_TIMEOUT_MS = 30_000;

const SOCKET_PATH = "/run/containerd/containerd.sock";
const CONFIG_PATH = "/etc/containerd/config.toml";
const CNI_CONFIG_PATH = "/etc/cni/net.d/10-bridge.conflist";
const LOG_PATH = "/var/log/containerd.log";

/** The network of containerd's pods, of no meaning outside the node. */
const POD_SUBNET = "10.88.0.0/16";
const BRIDGE = "cni0";

/**
 * containerd's configuration. The lab's machine may lack AppArmor, the hugetlb controller and the right
 * to lower OOM scores.
 */
const CONFIG = `version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "${SOCKET_PATH}"
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "registry.k8s.io/pause:3.10"
  [plugins.'io.containerd.cri.v1.images'.registry]
    config_path = "/etc/containerd/certs.d"
[plugins.'io.containerd.cri.v1.runtime']
  disable_apparmor = true
  restrict_oom_score_adj = true
  tolerate_missing_hugetlb_controller = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "/etc/cni/net.d"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      SystemdCgroup = false
`;

/** The pods' network: a bridge in the node, and host ports. */
const CNI_CONFIG = {
  cniVersion: "1.0.0",
  name: "pods",
  plugins: [
    {
      type: "bridge",
      bridge: BRIDGE,
      isGateway: true,
      ipMasq: true,
      promiscMode: true,
      ipam: {
        type: "host-local",
        ranges: [[{ subnet: POD_SUBNET }]],
        routes: [{ dst: "0.0.0.0/0" }],
      },
    },
    { type: "portmap", capabilities: { portMappings: true } },
  ],
};

/** A containerd in the lab's Kubernetes node; there can be one. */
export interface Containerd {
  /** Its CRI socket, as a path in the node. */
  readonly socketPath: string;
  readonly crictl: Crictl;
  /** Its log, as a path on the machine. */
  readonly logPath: string;
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
): Promise<Containerd> {
  await ensureClient("crictl", progress);
  await configure(lab);
  const crictl = new Crictl(lab, SOCKET_PATH);
  const program = await NodeProgram.start(lab, {
    name: "containerd",
    argv: ["containerd", "--config", CONFIG_PATH],
    logPath: LOG_PATH,
  }, {
    answers: async () => (await crictl.run(["version"])).code === 0,
    timeoutMs: START_TIMEOUT_MS,
  });
  const stop = async () => {
    try {
      // A shim outlives containerd, and ends with its pod.
      await crictl.removePods(await crictl.pods());
    } finally {
      await program.stop();
      // The plugin never removes it. There is none when no pod had a network.
      await lab.exec("knode", ["ip", "link", "delete", "dev", BRIDGE]);
    }
  };
  try {
    await crictl.removePods(await crictl.pods());
  } catch (error) {
    await program.stop();
    throw error;
  }
  return { socketPath: SOCKET_PATH, crictl, logPath: lab.path("knode", LOG_PATH), stop };
}

async function configure(lab: Lab): Promise<void> {
  const registry = `http://${lab.address("registry")}:${REGISTRY_PORTS.numbered}`;
  const files: Record<string, string> = {
    [CONFIG_PATH]: CONFIG,
    [CNI_CONFIG_PATH]: JSON.stringify(CNI_CONFIG),
    // For every registry that has no folder of its own: none has.
    "/etc/containerd/certs.d/_default/hosts.toml":
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
