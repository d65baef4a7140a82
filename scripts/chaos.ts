/**
 * `deno task chaos [SECONDS]`: jobs on the lab's cluster while its parts fail one after the other, in an order that
 * MULTICRI_TEST_SEED repeats. Ends with 1 when a job was lost, doubled or called dead while it lived.
 */
import { delay } from "@std/async/delay";
import { messageOf } from "../lib/base/error.ts";
import { writeStderrLine, writeStdoutLine } from "../lib/base/log.ts";
import { ContainerState } from "../lib/cri/api.generated.ts";
import { CriClient } from "../tests/cri_client.ts";
import { randomSource, seedFor } from "../wasm/test_random.ts";
import { Lab } from "./lab/lab.ts";
import { NodeServer, prepareNode } from "./lab/node_server.ts";

const DEFAULT_SECONDS = 120;
/** Between two new jobs. */
const JOB_MS = 1_000;
/** A fault lasts up to so long; a kubelet's call may take two minutes. */
const MAX_FAULT_MS = 12_000;
const PAUSE_MS = 2_000;
/** A client tries again after an error. */
const RETRY_MS = 500;
/** After the last fault everything must have ended within this. */
const SETTLE_MS = 120_000;
const IMAGE = "multicri/docker-repository.lab/busybox:1";
/** What a job ends with: no failure of ours or of Slurm's has this code. */
const EXIT_CODE = 5;
/** What a job ends with whose node fails under it. */
const NODE_FAIL_EXIT_CODE = 224;

interface Fault {
  name: string;
  begin: () => Promise<unknown>;
  end: () => Promise<unknown>;
}

/** @param nodeKilledAtMs Gets the times at which the node n2 was killed. */
function faultsOf(lab: Lab, server: NodeServer, nodeKilledAtMs: number[]): Fault[] {
  const on = (host: "ctl" | "knode" | "n2", script: string) => () =>
    lab.exec(host, ["sh", "-c", script]);
  const route = (verb: string) => on("knode", `ip route ${verb} blackhole ${lab.login.host}/32`);
  return [
    { name: "packets to the cluster are dropped", begin: route("add"), end: route("del") },
    {
      name: "sshd and all its connections are gone",
      begin: on("ctl", "exec pkill -KILL -f '^sshd|/sshd'"),
      end: on("ctl", "setsid --fork /usr/sbin/sshd -D -e >>/var/log/sshd.out 2>&1"),
    },
    {
      name: "sshd's connections are frozen",
      begin: on("ctl", "exec pkill -STOP -f 'sshd-session|sshd:'"),
      end: on("ctl", "exec pkill -CONT -f 'sshd-session|sshd:'"),
    },
    {
      name: "slurmctld is frozen",
      begin: on("ctl", "exec pkill -STOP -x slurmctld"),
      end: on("ctl", "exec pkill -CONT -x slurmctld"),
    },
    {
      name: "slurmctld is down",
      begin: on("ctl", "exec pkill -x slurmctld"),
      end: on("ctl", "setsid --fork slurmctld -D >>/var/log/slurmctld.out 2>&1"),
    },
    {
      name: "a compute node is dead",
      begin: async () => {
        nodeKilledAtMs.push(performance.now());
        const user = lab.login.user;
        await on("n2", `pkill -KILL -x slurmd; pkill -KILL slurmstepd; pkill -KILL -u ${user}`)();
        // What a controller finds out by itself after SlurmdTimeout.
        await on("ctl", "scontrol update nodename=n2 state=down reason=chaos")();
      },
      end: async () => {
        await on("n2", "setsid --fork slurmd -D -N n2 >>/var/log/slurmd.out 2>&1")();
        await on("ctl", "scontrol update nodename=n2 state=resume")();
      },
    },
    { name: "the server is down", begin: () => server.kill(), end: () => server.start() },
  ];
}

async function main(seconds: number): Promise<number> {
  const random = randomSource(seedFor("chaos"));
  const lab = new Lab({}, writeStderrLine);
  await prepareNode(lab, writeStderrLine);
  const server = new NodeServer(lab, { name: "chaos" });
  await server.forget();
  await server.start();
  await server.crictlOk(["pull", IMAGE]);
  const socket = lab.path("knode", server.socketPath);
  const jobs: Promise<string[]>[] = [];
  const nodeKilledAtMs: number[] = [];
  const over = performance.now() + seconds * 1_000;
  const submitting = (async () => {
    while (performance.now() < over) {
      const sleep = 1 + random.below(20);
      jobs.push(oneJob(lab, socket, sleep, over + SETTLE_MS, nodeKilledAtMs));
      await delay(JOB_MS);
    }
  })();
  try {
    while (performance.now() < over) {
      const fault = random.pick(faultsOf(lab, server, nodeKilledAtMs));
      const ms = 500 + random.below(MAX_FAULT_MS);
      writeStdoutLine(`${fault.name} for ${ms} ms`);
      await fault.begin();
      await delay(ms);
      await fault.end();
      await delay(PAUSE_MS);
    }
    await submitting;
    const failures = (await Promise.all(jobs)).flat();
    writeStdoutLine(`${jobs.length} jobs, ${failures.length} failures`);
    for (const failure of failures) writeStdoutLine(failure);
    return failures.length === 0 ? 0 : 1;
  } finally {
    await server.stop();
  }
}

/** Runs a job as a kubelet does, which calls again after an error; returns what was wrong with it. */
async function oneJob(
  lab: Lab,
  socket: string,
  sleepSeconds: number,
  deadline: number,
  nodeKilledAtMs: readonly number[],
): Promise<string[]> {
  const beganMs = performance.now();
  const until = async <T>(work: (client: CriClient) => Promise<T | undefined>): Promise<T> => {
    let last = "it has not come so far";
    while (performance.now() < deadline) {
      const client = new CriClient(socket);
      try {
        const done = await work(client);
        if (done !== undefined) return done;
      } catch (error) {
        last = messageOf(error);
      } finally {
        client.close();
      }
      await delay(RETRY_MS);
    }
    throw new Error(last);
  };
  const { host, user, password } = lab.login;
  const envs = Object.entries({
    CLUSTER_HOST: host,
    CLUSTER_USERNAME: user,
    CLUSTER_PASSWORD: password,
  }).map(([key, value]) => ({ key, value: new TextEncoder().encode(value) }));
  const script =
    `echo run >>"$MULTICRI_RESULTS_DIR/runs"; sleep ${sleepSeconds}; exit ${EXIT_CODE}`;
  const config = new CriClient(socket).podConfig();
  let id = "none";
  try {
    const pod = await until((client) => client.runPod(config));
    const image = { image: IMAGE, userSpecifiedImage: IMAGE };
    id = await until((client) => client.create(pod, script, { envs, image }));
    const status = await until(async (client) => {
      const status = await client.status(id);
      if (status.state === ContainerState.CONTAINER_EXITED) return status;
      if (status.state === ContainerState.CONTAINER_CREATED) {
        await client.call("startContainer", { containerId: id });
      }
      return undefined;
    });
    const runs = await lab.exec("ctl", ["sh", "-c", `cat "$HOME"/multi-cri/*/${id}/results/runs`], {
      user,
    });
    const times = runs.stdout.split("\n").filter((line) => line === "run").length;
    const failures = [];
    const lostNode = status.exitCode === NODE_FAIL_EXIT_CODE &&
      nodeKilledAtMs.some((ms) => ms >= beganMs);
    if (times !== 1 && !(lostNode && times === 0)) failures.push(`${id} ran ${times} times`);
    if (status.exitCode !== EXIT_CODE && !lostNode) {
      failures.push(`${id} ended with ${status.exitCode} ${status.reason}: ${status.message}`);
    }
    await until(async (client) => {
      await client.call("removePodSandbox", { podSandboxId: pod.id });
      return true;
    });
    return failures;
  } catch (error) {
    return [`${id}: ${messageOf(error)}`];
  }
}

if (import.meta.main) Deno.exit(await main(Number(Deno.args[0] ?? DEFAULT_SECONDS)));
