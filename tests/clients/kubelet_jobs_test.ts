/**
 * What a real kubelet makes of Slurm pods: one job for each container, whatever dies or is cut off meanwhile.
 *
 * MULTICRI_LONG=1 makes the waits as long as on a bad day (three minutes in the queue, five minutes without the
 * cluster); without it they are a twentieth.
 */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { delay } from "@std/async/delay";
import { Kubelet } from "../../scripts/lab/kubelet.ts";
import { Lab } from "../../scripts/lab/lab.ts";
import { NodeServer } from "../../scripts/lab/node_server.ts";
import {
  container,
  jobsOf,
  nothingLeft,
  onCluster,
  outputOf,
  pod,
  podSpec,
  prepareLab,
  removeStaticPod,
  RUN,
  type ScriptContainer,
  untilEnded,
  untilGone,
  untilNoJobs,
  untilPod,
} from "./pods.ts";

const LONG = Deno.env.get("MULTICRI_LONG") === "1";
const QUEUE_MS = LONG ? 180_000 : 9_000;
const CUT_MS = LONG ? 300_000 : 15_000;

const lab = new Lab();
Deno.test.beforeAll(() => prepareLab(lab));

/** A server and a kubelet on it, both without records of earlier runs. */
async function withKubelet(
  test: (kubelet: Kubelet, server: NodeServer) => Promise<void>,
): Promise<void> {
  const server = new NodeServer(lab, { name: "kubelet-jobs" });
  await server.forget();
  const kubelet = new Kubelet(lab, { socketPath: server.socketPath });
  try {
    await server.start();
    await kubelet.start();
    await test(kubelet, server);
    await untilNoJobs(lab);
  } finally {
    await kubelet.remove();
    // The kubelet removes ended sandboxes some minutes later.
    for (const pod of (await server.crictlOk(["pods", "-q"])).split("\n")) {
      if (pod !== "") await server.crictlOk(["rmp", "--force", pod]);
    }
    await server.stop();
  }
  await nothingLeft(lab);
}

/** Makes a static pod of containers; `more` are further fields of its PodSpec. */
async function write(
  kubelet: Kubelet,
  name: string,
  containers: ScriptContainer[],
  more: Record<string, unknown> = {},
): Promise<void> {
  await kubelet.writeStaticPod(name, pod(name, podSpec(lab, containers, more)));
}

const COUNT = "for i in $(seq 1 100); do echo line $i; sleep 0.05; done; exit 5";
const LINES = Array.from({ length: 100 }, (_, index) => `line ${index + 1}`);
const HELD = { JOB_CUSTOM_CONFIG: "#SBATCH --hold" };

/** What may go wrong while a job waits in the queue. */
const TROUBLES: Record<string, (kubelet: Kubelet, server: NodeServer) => Promise<void>> = {
  "it only waits": () => delay(QUEUE_MS),
  "the server is killed twice": async (_kubelet, server) => {
    for (let kills = 0; kills < 2; kills++) {
      await delay(QUEUE_MS / 3);
      await server.kill();
      await server.start();
    }
    await delay(QUEUE_MS / 3);
  },
  "the cluster is cut off": async () => {
    const route = ["blackhole", `${lab.login.host}/32`];
    assertEquals((await lab.exec("knode", ["ip", "route", "add", ...route])).code, 0);
    await delay(CUT_MS);
    assertEquals((await lab.exec("knode", ["ip", "route", "del", ...route])).code, 0);
    await delay(QUEUE_MS / 3);
  },
  "the kubelet is restarted": async (kubelet) => {
    await delay(QUEUE_MS / 2);
    await kubelet.restart();
    await delay(QUEUE_MS / 2);
  },
};
for (const [index, [trouble, happens]] of Object.entries(TROUBLES).entries()) {
  Deno.test(`a pod has one job with a whole log when ${trouble} while the job pends`, () =>
    withKubelet(async (kubelet, server) => {
      const name = `waits-${index}-${RUN}`;
      await write(kubelet, name, [{ name: "main", script: COUNT, env: HELD }]);
      const waiting = await untilPod(
        kubelet,
        name,
        "running",
        ({ status }) => status.phase === "Running",
      );
      await happens(kubelet, server);
      const [job = ""] = await jobsOf(lab, waiting);
      await onCluster(lab, `scontrol release ${job}`);
      const found = await untilEnded(kubelet, name);
      const [status] = found.status.containerStatuses ?? [];
      assertEquals([status?.state.terminated?.exitCode, status?.restartCount], [5, 0]);
      assertEquals((await outputOf(lab, found)).stdout, LINES);
      assertEquals(await jobsOf(lab, found), [job]);
      await removeStaticPod(kubelet, name);
    }));
}

Deno.test("nothing is left on the cluster when half of 20 pods are deleted while they pend or run", () =>
  withKubelet(async (kubelet) => {
    const names = Array.from({ length: 20 }, (_, index) => `many-${index}-${RUN}`);
    for (const [index, name] of names.entries()) {
      const pending = index % 4 === 0;
      await write(kubelet, name, [{
        name: "main",
        // Half of them stay until they are deleted.
        script: index % 2 === 0 ? "trap 'exit 0' TERM; sleep 600 & wait" : `echo ${name}; exit 0`,
        env: pending ? HELD : {},
      }]);
    }
    for (const name of names) {
      await untilPod(
        kubelet,
        name,
        "started",
        ({ status }) => ["Running", "Succeeded"].includes(status.phase ?? ""),
      );
    }
    const [stay, go] = [names.filter((_, i) => i % 2 === 1), names.filter((_, i) => i % 2 === 0)];
    for (const name of go) await kubelet.removeStaticPod(name);
    for (const name of go) await untilGone(kubelet, name);
    for (const name of stay) {
      const found = await untilEnded(kubelet, name);
      assertEquals([found.status.phase, (await outputOf(lab, found)).stdout], ["Succeeded", [
        name,
      ]]);
      assertEquals((await jobsOf(lab, found)).length, 1);
      await kubelet.removeStaticPod(name);
    }
    for (const name of stay) await untilGone(kubelet, name);
  }));

Deno.test("init containers run once each and in order before the pod's own", () =>
  withKubelet(async (kubelet) => {
    const name = `staged-${RUN}`;
    const stamp = "date +%s%N";
    await write(kubelet, name, [{ name: "main", script: stamp }], {
      initContainers: ["one", "two"].map((name) => container(lab, { name, script: stamp })),
    });
    const found = await untilEnded(kubelet, name);
    assertEquals(found.status.phase, "Succeeded");
    const stamps: string[] = [];
    for (const one of ["one", "two", "main"]) {
      stamps.push(...(await outputOf(lab, found, one)).stdout);
    }
    assertEquals(stamps.length, 3);
    // Nanoseconds since the epoch have as many digits for centuries.
    assertEquals(stamps, stamps.toSorted());
    assertEquals((await jobsOf(lab, found)).length, 3);
    await removeStaticPod(kubelet, name);
  }));

const messages: [string, string, Record<string, unknown>, string][] = [
  ["from its file", "echo from the file >/dev/termination-log; exit 1", {}, "from the file\n"],
  [
    "from its log",
    "echo last words; exit 1",
    { terminationMessagePolicy: "FallbackToLogsOnError" },
    "last words",
  ],
];
for (const [index, [name, script, more, message]] of messages.entries()) {
  Deno.test(`a container's termination message comes ${name}`, () =>
    withKubelet(async (kubelet) => {
      const podName = `message-${index}-${RUN}`;
      await write(kubelet, podName, [{ name: "main", script, more }]);
      const found = await untilEnded(kubelet, podName);
      assertStringIncludes(
        found.status.containerStatuses?.[0]?.state.terminated?.message ?? "",
        message,
      );
      await removeStaticPod(kubelet, podName);
    }));
}

Deno.test("probes and hooks wait for the queue, and then tell the truth", () =>
  withKubelet(async (kubelet) => {
    const name = `probed-${RUN}`;
    await write(kubelet, name, [{
      name: "main",
      script: "touch /tmp/alive; sleep 600",
      env: HELD,
      more: {
        livenessProbe: {
          exec: { command: ["test", "-e", "/tmp/alive"] },
          periodSeconds: 1,
          failureThreshold: 1,
        },
        readinessProbe: { exec: { command: ["test", "-e", "/tmp/hooked"] }, periodSeconds: 1 },
        lifecycle: { postStart: { exec: { command: ["touch", "/tmp/hooked"] } } },
      },
    }]);
    await delay(QUEUE_MS);
    const waiting = await untilPod(kubelet, name, "known", () => true);
    const [job = ""] = await jobsOf(lab, waiting);
    await onCluster(lab, `scontrol release ${job}`);
    const found = await untilPod(
      kubelet,
      name,
      "ready",
      ({ status }) => status.containerStatuses?.[0]?.ready === true,
    );
    assertEquals(found.status.containerStatuses?.[0]?.restartCount, 0);
    assertEquals(await jobsOf(lab, found), [job]);
    await removeStaticPod(kubelet, name);
  }));
