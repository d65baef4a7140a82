/** Many containers that come and go on the lab's Kubernetes node, and what is left there of them. */
import { status as GrpcStatus } from "@grpc/grpc-js";
import { delay } from "@std/async/delay";
import { messageOf } from "../lib/base/error.ts";
import {
  ContainerState,
  type ContainerStatus,
  type DeepPartial,
  type LinuxSandboxSecurityContext,
  NamespaceMode,
  type PodSandboxConfig,
} from "../lib/cri/api.generated.ts";
import { CriClient, IMAGE, type Pod } from "./cri_client.ts";
import { NetworkNode } from "./network_node.ts";
import { leftOnNode } from "./node_leftovers.ts";
import { lab, logged } from "./on_node.ts";

/** As a kubelet starts pods at once. */
const WORKERS = 10;
/** A client tries again after an error, as long as a server may take to start. */
const RETRY_MS = 200;
const PATIENCE_MS = 60_000;
const LOOK_MS = 50;
/** A supervisor ends a moment after the last it tells. */
const SETTLE_MS = 10_000;
/** Finds processes of containers. */
const OURS = ["pgrep", "-f", "^multicri: container|^perl |^crun |^pause$|^/bin/sh -c"];
/** So many pods are of all kinds that there are; see podOf(). */
const KINDS = 6;

/** What there is of something in the node, by what it is. */
export type Counts = Readonly<Record<string, number>>;

/** What became of the containers. */
export interface Churn {
  before: Counts;
  after: Counts;
  /** What was not as it must be, a sentence each. */
  failures: string[];
  /** Calls that failed, because the server was killed, and were repeated. */
  repeated: number;
  seconds: number;
}

/**
 * Prints lines of what a kind of thing is called and how many there are. $1, $2: the folders of the server, which must
 * not run; $3 its name. Processes without a parent are the lab's own.
 */
const COUNT = `
count() { echo "$1 $(wc -l)"; }
# Before there is anything of this script itself that may be there or not.
parents=$(ps -e -o ppid=)
echo "$parents" | grep -vw 0 | count processes
cat /proc/mounts | count mounts
readlink /proc/[0-9]*/ns/* 2>/dev/null | sort -u | count namespaces
ip -o link | count interfaces
find /sys/fs/cgroup -type d | count cgroups
find "$1" "$2" /run/netns /var/lib/cni /tmp -xdev 2>/dev/null | count files
losetup -a | grep -F "/$3/" | count loops`;

/** The ways in which containers end. */
const ENDS = ["by itself", "stopped", "removed"] as const;

/**
 * Lets workers run pods with networks of their own, each with a container in which a command is run, and remove them;
 * the server is killed `kills` times meanwhile.
 */
export async function churn(name: string, containers: number, kills: number): Promise<Churn> {
  const node = await NetworkNode.start(name, { flags: ["--adapter-name", "singularity"] });
  const client = new CriClient(lab.path("knode", node.server.socketPath));
  const worker = new Worker(client, kills > 0);
  try {
    await client.call("pullImage", { image: { image: IMAGE } });
    // What plugins and cgroups' parents leave for the whole node is there from then on.
    await Promise.all(Array.from({ length: KINDS }, (_, index) => worker.run(index)));
    const before = await countAll(node);
    await node.server.start();
    const beganMs = performance.now();
    let [begun, ended, killed] = [0, 0, 0];
    const workers = Array.from({ length: WORKERS }, async () => {
      while (begun < containers) {
        await worker.run(begun++);
        ended++;
      }
    });
    for (; killed < kills; killed++) {
      const share = (killed + 1) / (kills + 1);
      while (ended < containers * share) await delay(LOOK_MS);
      await node.killServer();
      await node.server.start();
    }
    await Promise.all(workers);
    const seconds = (performance.now() - beganMs) / 1_000;
    const known = [...await client.pods({}), ...await client.containers({})];
    const after = await countAll(node);
    const left = (await leftOnNode(node.server)).split("\n").filter((line) => line !== "");
    const failures = [
      ...worker.failures,
      ...known.map((id) => `${id} is still known`),
      ...left.map((line) => `${line} is left`),
    ];
    return { before, after, failures, repeated: worker.repeated, seconds };
  } finally {
    client.close();
    await node.server.start();
    await node.stop();
  }
}

/** Counts with the server stopped, which it then is, and when those had a moment to end who were about to. */
async function countAll(node: NetworkNode): Promise<Counts> {
  const { server } = node;
  await server.stop();
  const deadline = performance.now() + SETTLE_MS;
  while (await lab.exec("knode", OURS).then(({ code }) => code === 0)) {
    if (performance.now() > deadline) break;
    await delay(LOOK_MS);
  }
  const argv = ["sh", "-c", COUNT, "sh", server.rootDir, server.stateDir, node.name];
  const { stdout } = await lab.exec("knode", argv);
  const counts = stdout.trim().split("\n").map((line): [string, number] => {
    const [what = "", count] = line.split(" ");
    return [what, Number(count)];
  });
  const { leases, rules, locks } = await node.remains();
  return { ...Object.fromEntries(counts), leases, rules, locks };
}

/** Runs one container after the other, as a client that repeats calls. */
class Worker {
  readonly failures: string[] = [];
  repeated = 0;

  constructor(readonly client: CriClient, readonly mayRepeat: boolean) {}

  /** From its pod to its removal; the index chooses what pod and container are like. */
  async run(index: number): Promise<void> {
    const { client } = this;
    const config = client.podConfig(podOf(index));
    const end = ENDS[index % ENDS.length];
    try {
      const pod = await this.#until(() => client.runPod(config));
      const script = `echo out-${index}; trap 'exit 5' TERM
until [ -e /go ]; do sleep 0.05; done; exit 7`;
      const id = await this.#until(() => client.create(pod, script));
      await this.#start(id);
      // What ends the container may end the command with it.
      await this.#exec(id, end === "by itself" ? "echo done; touch /go" : "echo done");
      if (end !== "removed") await this.#end(pod, id, index, end === "stopped");
      await this.#until(() => client.call("removePodSandbox", { podSandboxId: pod.id }));
    } catch (error) {
      this.failures.push(`container ${index}: ${messageOf(error)}`);
    }
  }

  async #start(id: string): Promise<void> {
    await this.#until(async () => {
      const { state } = await this.client.status(id);
      if (state !== ContainerState.CONTAINER_CREATED) return;
      await this.client.call("startContainer", { containerId: id });
    });
  }

  async #exec(id: string, script: string): Promise<void> {
    const cmd = ["/bin/sh", "-c", script];
    const stdout = await this.#until(async () => {
      // An earlier call may have come through.
      if (this.repeated > 0 && await this.#exited(id) !== undefined) return "done\n";
      const answer = await this.client.call("execSync", { containerId: id, cmd, timeout: 30n });
      return new TextDecoder().decode(answer.stdout);
    });
    if (stdout !== "done\n") throw new Error(`the command told ${JSON.stringify(stdout)}`);
  }

  async #end(pod: Pod, id: string, index: number, isStopped: boolean): Promise<void> {
    if (isStopped) {
      await this.#until(() => this.client.call("stopContainer", { containerId: id, timeout: 30n }));
    }
    let status: ContainerStatus | undefined;
    const deadline = performance.now() + PATIENCE_MS;
    while ((status = await this.#until(() => this.#exited(id))) === undefined) {
      if (performance.now() > deadline) throw new Error("it has not ended");
      await delay(LOOK_MS);
    }
    const told = await logged(pod, "stdout");
    if (status.exitCode !== (isStopped ? 5 : 7)) {
      throw new Error(`it ended with ${status.exitCode} ${status.reason}: ${status.message}`);
    }
    if (told !== `out-${index}\n`) throw new Error(`its log holds ${JSON.stringify(told)}`);
  }

  async #exited(id: string): Promise<ContainerStatus | undefined> {
    const status = await this.client.status(id);
    return status.state === ContainerState.CONTAINER_EXITED ? status : undefined;
  }

  /** Repeats calls while the server may be away. */
  async #until<T>(call: () => Promise<T>): Promise<T> {
    const deadline = performance.now() + PATIENCE_MS;
    for (;;) {
      try {
        return await call();
      } catch (error) {
        if (!this.mayRepeat || !isOfDeath(error) || performance.now() > deadline) throw error;
        this.repeated++;
        await delay(RETRY_MS);
      }
    }
  }
}

/** Whether an error is what a client sees of a server that was killed: grpc-js calls a broken stream INTERNAL. */
function isOfDeath(error: unknown): boolean {
  const { code, details = "" } = error as { code?: number; details?: string };
  return code === GrpcStatus.UNAVAILABLE || code === GrpcStatus.CANCELLED ||
    code === GrpcStatus.INTERNAL && !details.startsWith("Cannot ");
}

/** Pods of several kinds: with shared processes, users of their own, ports of the node. */
function podOf(index: number): DeepPartial<PodSandboxConfig> {
  const range = [{ hostId: 1_000_000, containerId: 0, length: 65_536 }];
  const securityContext: DeepPartial<LinuxSandboxSecurityContext> = {
    namespaceOptions: {
      pid: index % 2 === 0 ? NamespaceMode.POD : NamespaceMode.CONTAINER,
      ...(index % 5 === 0
        ? { usernsOptions: { mode: NamespaceMode.POD, uids: range, gids: range } }
        : {}),
    },
  };
  const portMappings = index % 4 === 0 ? [{ containerPort: 80, hostPort: 20_000 + index }] : [];
  return { linux: { securityContext }, portMappings };
}
