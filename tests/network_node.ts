/** A server with pod networks in the lab's Kubernetes node, and what there is of networks in that node. */
import { Lab } from "../scripts/lab/lab.ts";
import { NodeServer, prepareNode } from "../scripts/lab/node_server.ts";

/** Where Debian has the CNI plugins. */
export const PLUGINS = "/usr/lib/cni";

/** Keeps pods in spite of a reboot. */
export const PERSISTENCE = "--enable-pod-persistence";

/** A rule or chain of iptables that is a pod's: by its address, or by the digest of its id in the chain's name. */
const POD_RULE = /10[.]92[.]0[.]|fd92::|CNI-(DN-|SN-)?[0-9a-f]{20}/;

/** The parts of `crictl inspectp` that tests look at. */
export interface InspectedPod {
  status: { state: string; network: { ip: string; additionalIps: { ip: string }[] } };
  info: { network?: { netnsPath: string; addresses: string[] } };
}

/** Everything that pods' networks leave in a node, counted, without rules for the whole node. */
export interface Remains {
  namespaces: number;
  interfaces: number;
  leases: number;
  rules: number;
  locks: number;
}

/** One server, one network of its name. */
export class NetworkNode {
  readonly server: NodeServer;
  /** Directory of configurations, as a path in the node. */
  readonly confDir: string;
  #pods = 0;

  private constructor(
    readonly lab: Lab,
    readonly name: string,
    readonly binDir: string,
    flags: readonly string[],
  ) {
    this.confDir = `/etc/${name}/net.d`;
    this.server = new NodeServer(lab, {
      name,
      flags: [
        "--enable-pod-network",
        `--network-conf-dir=${this.confDir}`,
        `--network-bin-dir=${binDir}`,
        PERSISTENCE,
        ...flags,
      ],
    });
  }

  /** Starts a server without anything of earlier runs, with a bridge for its pods unless `network` is another. */
  static async start(
    name: string,
    options: { network?: unknown; binDir?: string; flags?: readonly string[] } = {},
  ): Promise<NetworkNode> {
    const lab = new Lab();
    await prepareNode(lab, () => {});
    const node = new NetworkNode(lab, name, options.binDir ?? PLUGINS, options.flags ?? []);
    await node.configure(options.network ?? node.bridgeNetwork());
    await node.server.forget();
    await node.server.start();
    return node;
  }

  /** Ends the server and removes its pods and its bridge. */
  async stop(): Promise<void> {
    const pods = await this.server.crictlOk(["pods", "-q"]);
    if (pods !== "") await this.server.crictlOk(["rmp", "--force", "--all"]);
    await this.server.stop();
    // The plugin never removes it.
    await this.lab.exec("knode", ["ip", "link", "delete", "dev", this.name]);
  }

  /** Two families behind a bridge, with every plugin that a node of Kubernetes usually has. */
  bridgeNetwork(): Record<string, unknown> {
    return {
      cniVersion: "1.1.0",
      cniVersions: ["0.4.0", "1.0.0", "1.1.0"],
      name: this.name,
      plugins: [
        {
          type: "bridge",
          bridge: this.name,
          isGateway: true,
          ipMasq: true,
          hairpinMode: true,
          ipam: {
            type: "host-local",
            ranges: [[{ subnet: "10.92.0.0/24" }], [{ subnet: "fd92::/64" }]],
            routes: [{ dst: "0.0.0.0/0" }, { dst: "::/0" }],
          },
        },
        { type: "tuning", sysctl: { "net.ipv4.ip_unprivileged_port_start": "0" } },
        { type: "firewall", backend: "iptables" },
        { type: "bandwidth", capabilities: { bandwidth: true } },
        { type: "portmap", capabilities: { portMappings: true } },
      ],
    };
  }

  /** Writes the network's configuration, in place of any other; undefined leaves none. */
  async configure(network: unknown, ending: "conf" | "conflist" = "conflist"): Promise<void> {
    const directory = this.lab.path("knode", this.confDir);
    await Deno.mkdir(directory, { recursive: true });
    for await (const { name } of Deno.readDir(directory)) await Deno.remove(`${directory}/${name}`);
    if (network === undefined) return;
    await Deno.writeTextFile(`${directory}/10-pods.${ending}`, JSON.stringify(network));
  }

  /** Writes crictl's file of a new pod and returns the arguments that run it. */
  async runArgs(fields: Record<string, unknown> = {}): Promise<string[]> {
    const name = `${this.name}-${++this.#pods}`;
    const uid = crypto.randomUUID();
    const file = await this.server.writeJson(`${name}-pod.json`, {
      metadata: { name, namespace: "tests", uid, attempt: 0 },
      log_directory: `/var/log/pods/tests_${name}_${uid}`,
      linux: { cgroup_parent: "/" },
      ...fields,
    });
    return ["runp", "--runtime", "multicri", file];
  }

  async runPod(fields: Record<string, unknown> = {}): Promise<string> {
    return await this.server.crictlOk(await this.runArgs(fields));
  }

  async inspect(pod: string): Promise<InspectedPod> {
    return JSON.parse(await this.server.crictlOk(["inspectp", pod]));
  }

  /** The pod's addresses as a kubelet sees them. */
  async addresses(pod: string): Promise<string[]> {
    const { network } = (await this.inspect(pod)).status;
    return [network.ip, ...network.additionalIps.map(({ ip }) => ip)].filter((ip) => ip !== "");
  }

  /** Runs a shell script in the node. @throws {Error} when it fails. */
  async sh(script: string): Promise<string> {
    const { code, stdout, stderr } = await this.lab.exec("knode", ["sh", "-euc", script]);
    if (code !== 0) throw new Error(`${script} failed: ${stderr || stdout}`);
    return stdout.trim();
  }

  /** Runs a shell script in the pod's network namespace. */
  async inPod(pod: string, script: string): Promise<string> {
    return await this.sh(`exec ip netns exec multicri-${pod} sh -euc ${quote(script)}`);
  }

  /** Kills the server alone, as an out-of-memory killer would: what it has started goes on. */
  async killServer(): Promise<void> {
    const find = `pgrep -o -f 'main.ts.*socket-path ${this.server.socketPath}'`;
    // Its children are its own until it is gone, and the next line kills those it has.
    await this.sh(`pid=$(${find}); kill -9 $pid; while [ -e /proc/$pid ]; do sleep 0.01; done`);
    await this.server.kill();
  }

  /** Takes from the node what a reboot takes: namespaces, rules and what is in /run. The server must not run. */
  async forgetAsInReboot(): Promise<void> {
    await this.sh(
      `for name in $(ls /run/netns); do ip netns delete $name; done; rm -rf ${this.server.stateDir}`,
    );
    for (const program of ["iptables", "ip6tables"]) {
      await this.sh(
        `for table in filter nat; do ${program} -t $table -F; ${program} -t $table -X; done`,
      );
    }
  }

  /** What remains after a first pod, with which plugins make some things for the whole node, and keep them. */
  async usedOnce(): Promise<Remains> {
    const first = await this.runPod({ port_mappings: [{ container_port: 80, host_port: 18000 }] });
    await this.server.crictlOk(["rmp", "--force", first]);
    return await this.remains();
  }

  async remains(): Promise<Remains> {
    const count = async (script: string) => Number(await this.sh(`{ ${script}; } | wc -l`));
    return {
      namespaces: await count("ls /run/netns 2>/dev/null | grep ^multicri- || true"),
      interfaces: await count("ip -o link"),
      leases: await count(
        `ls /var/lib/cni/networks/${this.name} 2>/dev/null | grep '[.:]' | grep -v last_ || true`,
      ),
      rules: await count(
        `{ iptables-save; ip6tables-save; } | grep -E '${POD_RULE.source}' || true`,
      ),
      locks: await count(`ls ${this.server.stateDir} | grep 'network-[0-9a-f]\\{64\\}' || true`),
    };
  }
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
