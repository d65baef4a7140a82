import { delay } from "@std/async/delay";
import { ContainerState } from "../../lib/cri/api.generated.ts";
import { CriClient, type Pod } from "../../tests/cri_client.ts";
import type { Lab } from "../lab/lab.ts";
import { NodeServer } from "../lab/node_server.ts";

const IMAGE = "multicri/docker-repository.lab/busybox:1";

/** A hundred containers take their time on two cores. */
const START_TIMEOUT_MS = 300_000;

/** A job that runs. */
export interface BenchJob {
  containerId: string;
  jobId: string;
  host: string;
  /** The file of its stdout on the cluster, and its container's log on the node, as paths on the machine. */
  stdoutPath: string;
  logPath: string;
}

/** A server with Slurm jobs, and OpenSSH to the same cluster to compare with. */
export class SlurmBench {
  readonly client: CriClient;
  readonly #pods: Pod[] = [];
  readonly #controlPath = `${Deno.makeTempDirSync()}/ssh`;
  #master: Deno.ChildProcess | undefined;

  private constructor(readonly lab: Lab, readonly server: NodeServer) {
    this.client = new CriClient(lab.path("knode", server.socketPath));
  }

  static async start(
    lab: Lab,
    name: string,
    more: readonly string[] = [],
    env: Record<string, string> = {},
  ): Promise<SlurmBench> {
    const flags = ["-v", "0", "--stderrthreshold", "1", ...more];
    const server = new NodeServer(lab, { name, flags, env });
    await server.forget();
    await server.start();
    const bench = new SlurmBench(lab, server);
    await bench.client.call("pullImage", { image: { image: IMAGE } });
    return bench;
  }

  /** Starts jobs that do nothing unless told, and waits until their programs run. */
  async run(count: number, script = "sleep 86400"): Promise<BenchJob[]> {
    const ids: string[] = [];
    for (let made = 0; made < count; made++) {
      const { pod, id } = await this.create(`echo begun; ${script}`);
      this.#pods.push(pod);
      await this.client.call("startContainer", { containerId: id });
      ids.push(id);
    }
    return await Promise.all(ids.map((id) => this.#begun(id)));
  }

  /** A pod with a container that is not started; the caller removes it. */
  async create(script: string): Promise<{ pod: Pod; id: string }> {
    const { host, port, user, password } = this.lab.login;
    const envs = Object.entries({
      CLUSTER_HOST: host,
      CLUSTER_PORT: String(port),
      CLUSTER_USERNAME: user,
      CLUSTER_PASSWORD: password,
    }).map(([key, value]) => ({ key, value: new TextEncoder().encode(value) }));
    const pod = await this.client.runPod();
    const image = { image: IMAGE, userSpecifiedImage: IMAGE };
    return { pod, id: await this.client.create(pod, script, { image, envs }) };
  }

  /** A command line of OpenSSH over a connection that is kept, as ssh(1) has it. */
  ssh(...argv: string[]): string[] {
    const { host, port, user, privateKeyPath } = this.lab.login;
    const options = ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null"];
    return [
      "ssh",
      ...["-q", "-S", this.#controlPath, "-p", String(port), "-i", privateKeyPath],
      ...options.flatMap((option) => ["-o", option]),
      `${user}@${host}`,
      ...argv,
    ];
  }

  /** Opens that connection. */
  async connect(): Promise<void> {
    const [program = "", ...args] = this.ssh();
    this.#master = new Deno.Command(program, {
      args: ["-M", "-N", ...args],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    while (!(await Deno.stat(this.#controlPath).then(() => true, () => false))) await delay(20);
  }

  async stop(): Promise<void> {
    this.#master?.kill();
    await this.#master?.status;
    const ids = this.#pods.map(({ id }) => id);
    await Promise.all(
      ids.map((podSandboxId) => this.client.call("stopPodSandbox", { podSandboxId })),
    );
    await Promise.all(
      ids.map((podSandboxId) => this.client.call("removePodSandbox", { podSandboxId })),
    );
    this.client.close();
    await this.server.stop();
  }

  async #begun(containerId: string): Promise<BenchJob> {
    const deadline = performance.now() + START_TIMEOUT_MS;
    for (;;) {
      const { status, info } = await this.client.call("containerStatus", {
        containerId,
        verbose: true,
      });
      const { slurm } = JSON.parse(info["info"] ?? "{}");
      const logPath = this.lab.path("knode", status?.logPath ?? "");
      const text = await Deno.readTextFile(logPath).catch(() => "");
      if (slurm?.job !== undefined && text.includes(" stdout F begun\n")) {
        const stdoutPath = `${this.lab.homePath}/${
          slurm.directory.replace(/^\/home\/[^/]+\//, "")
        }/stdout`;
        return { containerId, jobId: slurm.jobId, host: slurm.job.host, stdoutPath, logPath };
      }
      if (status?.state === ContainerState.CONTAINER_EXITED || performance.now() > deadline) {
        throw new Error(`The job of the container ${containerId} did not start: ${text}`);
      }
      await delay(500);
    }
  }
}
