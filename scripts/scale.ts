/**
 * `deno task scale [JOBS]`: so many jobs on the lab's cluster, first all waiting, then a few at a time running. Reports
 * what that costs a minute, the delay from a job's end to its container's, and whatever was lost.
 */
import { delay } from "@std/async/delay";
import { writeStderrLine, writeStdoutLine } from "../lib/base/log.ts";
import {
  ContainerEventResponse,
  ContainerEventType,
  ContainerState,
} from "../lib/cri/api.generated.ts";
import { TestClient } from "../lib/server/test_client.ts";
import { CriClient, type Pod } from "../tests/cri_client.ts";
import { costAMinute, describeCost } from "./bench/cost.ts";
import { Lab } from "./lab/lab.ts";
import { NodeServer, prepareNode } from "./lab/node_server.ts";
import { LICENSES, PARTITIONS } from "./lab/slurm.ts";

const DEFAULT_JOBS = 1_000;
/** The cost is measured with so many jobs first. */
const FEW_JOBS = 20;
/** How long the cost is measured; squeue runs every five seconds. */
const COST_MS = 30_000;
/** Calls at once, as a kubelet with many pods makes. */
const CALLS_AT_ONCE = 8;
/** Without an end for so long something is lost. */
const PATIENCE_MS = 60_000;
const NANOSECONDS_PER_MS = 1_000_000n;
const IMAGE = "multicri/docker-repository.lab/busybox:1";

async function main(count: number): Promise<number> {
  const lab = new Lab({}, writeStderrLine);
  await prepareNode(lab, writeStderrLine);
  const server = new NodeServer(lab, { name: "scale" });
  await server.forget();
  await server.start();
  await server.crictlOk(["pull", IMAGE]);
  const client = new CriClient(lab.path("knode", server.socketPath));
  const events = new TestClient(lab.path("knode", server.socketPath));
  const toldAtMs = new Map<string, number>();
  const stream = events.stream("GetContainerEvents");
  const following = (async () => {
    for await (const bytes of stream) {
      const event = ContainerEventResponse.decode(bytes);
      if (event.containerEventType !== ContainerEventType.CONTAINER_STOPPED_EVENT) continue;
      toldAtMs.set(event.containerId, Number(event.createdAt / NANOSECONDS_PER_MS));
    }
  })().catch(() => {});
  const partition = (state: "up" | "down") =>
    lab.exec("ctl", ["scontrol", "update", `partition=${PARTITIONS.held}`, `state=${state}`]);
  try {
    const ids: string[] = [];
    await submit(lab, client, Math.min(FEW_JOBS, count), ids);
    const tellCost = async () => {
      const cost = describeCost(await costAMinute(lab, server, COST_MS));
      writeStdoutLine(`${ids.length} jobs wait, ${cost}`);
    };
    await tellCost();

    const startedMs = performance.now();
    await submit(lab, client, count, ids);
    const seconds = (performance.now() - startedMs) / 1_000;
    writeStdoutLine(`${ids.length} jobs wait, submitted in ${seconds.toFixed(0)} s`);
    await tellCost();

    await partition("up");
    const runningMs = performance.now();
    for (let known = -1; toldAtMs.size < ids.length && known < toldAtMs.size;) {
      known = toldAtMs.size;
      const deadline = performance.now() + PATIENCE_MS;
      while (toldAtMs.size === known && performance.now() < deadline) await delay(100);
    }
    const ran = ((performance.now() - runningMs) / 1_000).toFixed(0);
    writeStdoutLine(
      `${toldAtMs.size} of ${ids.length} jobs ended in ${ran} s, ${LICENSES} at once`,
    );
    return await report(client, ids, toldAtMs);
  } finally {
    await partition("down");
    events.close();
    client.close();
    await following;
    await server.stop();
    await lab.exec("ctl", ["scancel", "--user", lab.login.user]);
    await lab.exec("ctl", ["sh", "-c", 'rm -rf "$HOME"/multi-cri/[0-9a-f]*'], {
      user: lab.login.user,
      timeoutMs: PATIENCE_MS,
    });
  }
}

/** Starts containers until there are `total`. */
async function submit(lab: Lab, client: CriClient, total: number, ids: string[]): Promise<void> {
  const { host, user, password } = lab.login;
  const envs = Object.entries({
    CLUSTER_HOST: host,
    CLUSTER_USERNAME: user,
    CLUSTER_PASSWORD: password,
    JOB_QUEUE: PARTITIONS.held,
  }).map(([key, value]) => ({ key, value: new TextEncoder().encode(value) }));
  let next = ids.length;
  const worker = async () => {
    while (next++ < total) {
      const pod: Pod = await client.runPod(
        client.podConfig({ annotations: { "multicri.io/licenses": "solver:1" } }),
      );
      const image = { image: IMAGE, userSpecifiedImage: IMAGE };
      const id = await client.create(pod, "echo ran; exit 7", { envs, image });
      await client.call("startContainer", { containerId: id }, { deadline: 120_000 });
      ids.push(id);
    }
  };
  await Promise.all(Array.from({ length: CALLS_AT_ONCE }, worker));
}

/** Says what was lost and how late ends were told; returns the exit code. */
async function report(
  client: CriClient,
  ids: readonly string[],
  toldAtMs: ReadonlyMap<string, number>,
): Promise<number> {
  const delaysMs: number[] = [];
  const ends = new Map<string, number>();
  for (const id of ids) {
    const { state, exitCode, reason, finishedAt } = await client.status(id);
    const end = `${ContainerState[state]} ${exitCode} ${reason}`;
    ends.set(end, (ends.get(end) ?? 0) + 1);
    const told = toldAtMs.get(id);
    if (told !== undefined) delaysMs.push(told - Number(finishedAt / NANOSECONDS_PER_MS));
  }
  delaysMs.sort((a, b) => a - b);
  const at = (share: number) => delaysMs[Math.floor((delaysMs.length - 1) * share)] ?? NaN;
  writeStdoutLine(
    `end of a job to its container's end: p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, most ${at(1)} ms`,
  );
  for (const [end, times] of ends) writeStdoutLine(`${times} × ${end}`);
  return ends.size === 1 && toldAtMs.size === ids.length ? 0 : 1;
}

if (import.meta.main) Deno.exit(await main(Number(Deno.args[0] ?? DEFAULT_JOBS)));
