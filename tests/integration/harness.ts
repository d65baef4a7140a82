import { delay } from "@std/async/delay";
import { assertEquals } from "@std/assert";
import { Lab } from "../../scripts/lab/lab.ts";
import { NodeServer, type NodeServerOptions, prepareNode } from "../../scripts/lab/node_server.ts";

/** Bound on every wait for a job of a few seconds; the lab starts one within about a second. */
const WAIT_MS = 60_000;
const POLL_MS = 100;

export const BUSYBOX = "multicri/docker-repository.lab/busybox:1";
export const ENTRY = "multicri/docker-repository.lab/entry:1";

/** What a test says of its container; the rest is what every job needs. */
export interface JobSpec {
  image?: string;
  command?: string[];
  args?: string[];
  env?: Record<string, string>;
  workingDir?: string;
  /** The pod's UID; a new one unless given. */
  uid?: string;
  /** The pod's. */
  annotations?: Record<string, string>;
  containerAnnotations?: Record<string, string>;
  /** LinuxContainerConfig, as crictl reads it. */
  linux?: Record<string, unknown>;
  mounts?: { host_path: string; container_path: string; readonly?: boolean }[];
  stdin?: boolean;
  stdinOnce?: boolean;
  /** Replaces fields of crictl's files. */
  podFields?: Record<string, unknown>;
  containerFields?: Record<string, unknown>;
  tty?: boolean;
  /** Replaces the lab's own credentials and queue; undefined removes a variable. */
  cluster?: Record<string, string | undefined>;
}

/** The parts of `crictl inspect` that tests look at. */
export interface Inspected {
  status: {
    id: string;
    state: string;
    exitCode: number;
    reason: string;
    message: string;
    createdAt: string;
    startedAt: string;
    finishedAt: string;
    logPath: string;
    imageId: string;
    imageRef: string;
  };
  info: {
    slurm: {
      account: string;
      directory?: string;
      jobId?: string;
      job?: { host: string };
      pending?: { reason: string; priority: string; expectedStart: string };
    };
  };
}

/** A server in the lab's Kubernetes node and what tests do with it, by crictl alone. */
export class Harness {
  readonly server: NodeServer;
  #pods = 0;

  private constructor(readonly lab: Lab, options: NodeServerOptions) {
    this.server = new NodeServer(lab, options);
  }

  /** Brings up what is not up yet and starts a server without records of earlier runs. */
  static async start(options: NodeServerOptions & { name: string }): Promise<Harness> {
    const lab = new Lab();
    await prepareNode(lab, () => {});
    const harness = new Harness(lab, options);
    await harness.server.forget();
    await harness.server.start();
    await harness.server.crictlOk(["pull", BUSYBOX]);
    return harness;
  }

  async stop(): Promise<void> {
    await this.server.stop();
  }

  /** Writes crictl's files of a pod with one container, and returns their paths in the node. */
  async write(spec: JobSpec): Promise<{ sandboxFile: string; containerFile: string }> {
    const name = `${this.server.options.name}-${++this.#pods}`;
    const uid = spec.uid ?? crypto.randomUUID();
    const sandboxFile = await this.server.writeJson(`${name}-pod.json`, {
      metadata: { name, namespace: "tests", uid, attempt: 0 },
      log_directory: `/var/log/pods/tests_${name}_${uid}`,
      annotations: spec.annotations ?? {},
      linux: {},
      ...spec.podFields,
    });
    const containerFile = await this.server.writeJson(`${name}-container.json`, {
      metadata: { name: "main", attempt: 0 },
      image: { image: spec.image ?? BUSYBOX },
      command: spec.command ?? [],
      args: spec.args ?? [],
      working_dir: spec.workingDir ?? "",
      envs: this.#environment(spec),
      log_path: "main/0.log",
      annotations: spec.containerAnnotations ?? {},
      mounts: spec.mounts ?? [],
      stdin: spec.stdin ?? false,
      stdin_once: spec.stdinOnce ?? false,
      tty: spec.tty ?? false,
      linux: spec.linux ?? {},
      ...spec.containerFields,
    });
    return { sandboxFile, containerFile };
  }

  /** Creates a pod with one container and does not start it. */
  async create(spec: JobSpec): Promise<{ pod: string; container: string }> {
    const { sandboxFile, containerFile } = await this.write(spec);
    const pod = await this.server.crictlOk(["runp", "--runtime", "multicri", sandboxFile]);
    const container = await this.server.crictlOk(["create", pod, containerFile, sandboxFile]);
    return { pod, container };
  }

  /** Creates and starts. */
  async run(spec: JobSpec): Promise<{ pod: string; container: string }> {
    const made = await this.create(spec);
    await this.server.crictlOk(["start", made.container]);
    return made;
  }

  async inspect(container: string): Promise<Inspected> {
    return JSON.parse(await this.server.crictlOk(["inspect", container]));
  }

  /** Waits until the container is as wanted. @throws Error with how it is when it does not get there. */
  async until(
    container: string,
    what: string,
    holds: (inspected: Inspected) => boolean | Promise<boolean>,
    waitMs: number = WAIT_MS,
  ): Promise<Inspected> {
    const deadline = performance.now() + waitMs;
    for (;;) {
      const inspected = await this.inspect(container);
      if (await holds(inspected)) return inspected;
      if (performance.now() > deadline) {
        throw new Error(`${container} is not ${what}: ${JSON.stringify(inspected, null, 1)}`);
      }
      await delay(POLL_MS);
    }
  }

  exited(container: string, waitMs: number = WAIT_MS): Promise<Inspected> {
    const holds = ({ status }: Inspected) => status.state === "CONTAINER_EXITED";
    return this.until(container, "exited", holds, waitMs);
  }

  running(container: string): Promise<Inspected> {
    return this.until(container, "running on a node", ({ info }) => info.slurm.job !== undefined);
  }

  /** The container's log: the program's lines by stream, and our own without their prefix. */
  async logs(container: string): Promise<{ stdout: string[]; stderr: string[]; own: string[] }> {
    const { status } = await this.inspect(container);
    const text = await Deno.readTextFile(this.lab.path("knode", status.logPath));
    const lines = text.split("\n").filter((line) => line !== "").map((line) => {
      const match = /^(\S+) (stdout|stderr) ([FP]) (.*)$/s.exec(line);
      if (match === null) throw new Error(`not a CRI log line: ${JSON.stringify(line)}`);
      return { stream: match[2], text: match[4] ?? "" };
    });
    const own = (line: { stream?: string | undefined; text: string }) =>
      line.stream === "stderr" && line.text.startsWith("multicri: ");
    return {
      stdout: lines.filter((line) => line.stream === "stdout").map((line) => line.text),
      stderr: lines.filter((line) => line.stream === "stderr" && !own(line)).map((l) => l.text),
      own: lines.filter(own).map((line) => line.text.slice("multicri: ".length)),
    };
  }

  /** Runs a script on the cluster's login host as the cluster user. @throws Error when it fails. */
  async onCluster(script: string): Promise<string> {
    const { code, stdout, stderr } = await this.lab.exec("ctl", ["bash", "-elc", script], {
      user: this.lab.login.user,
      timeoutMs: WAIT_MS,
    });
    if (code !== 0) throw new Error(`${script} failed on the cluster: ${stderr || stdout}`);
    return stdout.trim();
  }

  /** Ids of all jobs that were ever submitted for the container and that Slurm still knows. */
  async jobsOf(container: string): Promise<string[]> {
    const ids = await this.onCluster(
      `squeue --noheader --states=all --name=multicri-${container} --format=%A`,
    );
    return ids.split("\n").filter((id) => id !== "");
  }

  /** Removes the pod and checks that nothing of it is left. */
  async removeCleanly(made: { pod: string; container: string }): Promise<void> {
    await this.server.crictlOk(["rmp", "--force", made.pod]);
    await this.nothingLeft(made);
  }

  /** Checks that nothing of a pod that was removed is left on the cluster or on the node. */
  async nothingLeft({ pod, container }: { pod: string; container: string }): Promise<void> {
    // Slurm may list a job that it has just killed for another moment.
    const deadline = performance.now() + WAIT_MS;
    for (let left = "?"; left !== "";) {
      left = await this.onCluster(
        `find . -path '*${pod}*'; squeue --noheader --name=multicri-${container} --format=%A`,
      );
      if (left !== "" && performance.now() > deadline) {
        throw new Error(`Something was left on the cluster: ${left}`);
      }
      if (left !== "") await delay(POLL_MS);
    }
    const { stdout } = await this.lab.exec("knode", [
      "find",
      this.server.stateDir,
      this.server.rootDir,
      "-name",
      `*${container}*`,
    ]);
    assertEquals(stdout, "", "something was left on the node");
  }

  #environment(spec: JobSpec): { key: string; value: string }[] {
    const { host, port, user, password } = this.lab.login;
    const variables: Record<string, string | undefined> = {
      CLUSTER_HOST: host,
      CLUSTER_PORT: String(port),
      CLUSTER_USERNAME: user,
      CLUSTER_PASSWORD: password,
      ...spec.cluster,
      ...spec.env,
    };
    return Object.entries(variables).flatMap(([key, value]) =>
      value === undefined ? [] : [{ key, value }]
    );
  }
}
