/**
 * What a real kubelet makes of Slurm pods: one job for each container, whatever dies or is cut off meanwhile.
 *
 * MULTICRI_LONG=1 makes the waits as long as on a bad day (three minutes in the queue, five minutes without the
 * cluster); without it they are a tenth.
 */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { delay } from "@std/async/delay";
import { Kubelet, type PodStatus } from "../../scripts/lab/kubelet.ts";
import { Lab } from "../../scripts/lab/lab.ts";
import { NodeServer, prepareNode } from "../../scripts/lab/node_server.ts";

const LONG = Deno.env.get("MULTICRI_LONG") === "1";
const QUEUE_MS = LONG ? 180_000 : 18_000;
const CUT_MS = LONG ? 300_000 : 30_000;
const POD_TIMEOUT_MS = 180_000;
const POLL_MS = 500;
const IMAGE = "multicri/docker-repository.lab/busybox:1";

/** Part of every pod's name, because Slurm remembers jobs of an earlier run for minutes. */
const RUN = Date.now().toString(36);

const lab = new Lab();
Deno.test.beforeAll(() => prepareNode(lab, () => {}));

/** A server and a kubelet on it, both without records of earlier runs. */
async function withKubelet(
  test: (kubelet: Kubelet, server: NodeServer) => Promise<void>,
): Promise<void> {
  const server = new NodeServer(lab, { name: "kubelet-jobs" });
  await lab.exec("knode", ["rm", "-rf", server.rootDir, server.stateDir, server.logPath]);
  const kubelet = new Kubelet(lab, { socketPath: server.socketPath });
  try {
    await server.start();
    await kubelet.start();
    await test(kubelet, server);
    await untilNoJobs();
  } finally {
    await kubelet.remove();
    // The kubelet removes ended sandboxes some minutes later.
    for (const pod of (await server.crictlOk(["pods", "-q"])).split("\n")) {
      if (pod !== "") await server.crictlOk(["rmp", "--force", pod]);
    }
    await server.stop();
  }
  assertEquals(await onCluster("squeue --noheader; ls multi-cri"), "", "something was left");
}

interface Container {
  name: string;
  script: string;
  env?: Record<string, string>;
  more?: Record<string, unknown>;
}

function container({ name, script, env = {}, more = {} }: Container): Record<string, unknown> {
  const { host, port, user, password } = lab.login;
  const variables = {
    CLUSTER_HOST: host,
    CLUSTER_PORT: String(port),
    CLUSTER_USERNAME: user,
    CLUSTER_PASSWORD: password,
    ...env,
  };
  return {
    name,
    image: IMAGE,
    command: ["/bin/sh", "-c", script],
    env: Object.entries(variables).map(([name, value]) => ({ name, value })),
    ...more,
  };
}

function pod(
  name: string,
  containers: Container[],
  more: Record<string, unknown> = {},
): Record<string, unknown> {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: "default" },
    spec: {
      restartPolicy: "Never",
      terminationGracePeriodSeconds: 5,
      containers: containers.map(container),
      ...more,
    },
  };
}

async function until(
  kubelet: Kubelet,
  name: string,
  what: string,
  holds: (pod: PodStatus | undefined) => boolean,
): Promise<PodStatus> {
  const deadline = performance.now() + POD_TIMEOUT_MS;
  for (;;) {
    // A kubelet that is being restarted does not answer.
    const found = await kubelet.pod(name).catch(() => undefined);
    if (holds(found)) return found as PodStatus;
    if (performance.now() > deadline) {
      throw new Error(`The pod ${name} is not ${what}: ${JSON.stringify(found?.status, null, 1)}`);
    }
    await delay(POLL_MS);
  }
}

const ended = (found: PodStatus | undefined) =>
  found?.status.phase === "Failed" || found?.status.phase === "Succeeded";

async function onCluster(script: string): Promise<string> {
  const { code, stdout, stderr } = await lab.exec("ctl", ["bash", "-lc", script], {
    user: lab.login.user,
  });
  assertEquals(code, 0, stderr);
  return stdout.trim();
}

/** The kubelet forgets a pod before its grace is over. */
async function untilNoJobs(): Promise<void> {
  const deadline = performance.now() + POD_TIMEOUT_MS;
  for (let left = "?"; left !== "";) {
    left = await onCluster("squeue --noheader");
    if (left !== "" && performance.now() > deadline) throw new Error(`Jobs were left: ${left}`);
    await delay(POLL_MS);
  }
}

/** Ids of all jobs of the pod that Slurm knows, also those that ended. */
async function jobsOf(podName: string): Promise<string[]> {
  const lines = await onCluster("squeue --noheader --states=all --format='%A %k'");
  return lines.split("\n").filter((line) => line.includes(` pod=default/${podName}-knode `))
    .map((line) => line.split(" ")[0] ?? "");
}

/** The program's stdout of one attempt of a container. */
async function stdoutOf({ metadata }: PodStatus, name: string, attempt = 0): Promise<string[]> {
  const folder = `/var/log/pods/${metadata.namespace}_${metadata.name}_${metadata.uid}`;
  const text = await Deno.readTextFile(lab.path("knode", `${folder}/${name}/${attempt}.log`));
  return text.trim().split("\n").map((line) => line.replace(/^\S+ /, ""))
    .filter((line) => line.startsWith("stdout F ")).map((line) => line.slice("stdout F ".length));
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
      await kubelet.writeStaticPod(
        name,
        pod(name, [{ name: "main", script: COUNT, env: HELD }]),
      );
      await until(kubelet, name, "running", (found) => found?.status.phase === "Running");
      await happens(kubelet, server);
      const [job = ""] = await jobsOf(name);
      await onCluster(`scontrol release ${job}`);
      const found = await until(kubelet, name, "ended", ended);
      const [status] = found.status.containerStatuses ?? [];
      assertEquals([status?.state.terminated?.exitCode, status?.restartCount], [5, 0]);
      assertEquals(await stdoutOf(found, "main"), LINES);
      assertEquals(await jobsOf(name), [job]);
      await kubelet.removeStaticPod(name);
      await until(kubelet, name, "gone", (found) => found === undefined);
    }));
}

Deno.test("nothing is left on the cluster when half of 20 pods are deleted while they pend or run", () =>
  withKubelet(async (kubelet) => {
    const names = Array.from({ length: 20 }, (_, index) => `many-${index}-${RUN}`);
    for (const [index, name] of names.entries()) {
      const pending = index % 4 === 0;
      await kubelet.writeStaticPod(
        name,
        pod(name, [{
          name: "main",
          // Half of them stay until they are deleted.
          script: index % 2 === 0 ? "trap 'exit 0' TERM; sleep 600 & wait" : `echo ${name}; exit 0`,
          env: pending ? HELD : {},
        }]),
      );
    }
    for (const name of names) {
      await until(
        kubelet,
        name,
        "started",
        (found) => ["Running", "Succeeded"].includes(found?.status.phase ?? ""),
      );
    }
    const [stay, go] = [names.filter((_, i) => i % 2 === 1), names.filter((_, i) => i % 2 === 0)];
    for (const name of go) await kubelet.removeStaticPod(name);
    for (const name of go) await until(kubelet, name, "gone", (found) => found === undefined);
    for (const name of stay) {
      const found = await until(kubelet, name, "ended", ended);
      assertEquals([found.status.phase, await stdoutOf(found, "main")], ["Succeeded", [name]]);
      assertEquals((await jobsOf(name)).length, 1);
      await kubelet.removeStaticPod(name);
    }
    for (const name of stay) await until(kubelet, name, "gone", (found) => found === undefined);
  }));

Deno.test("a container is run three times when it fails twice and its pod restarts on failure", () =>
  withKubelet(async (kubelet) => {
    const name = `retried-${RUN}`;
    await onCluster("rm -f attempts");
    // Counted outside the container, whose own files are new each time.
    const prerun =
      'echo x >>"$HOME/attempts"; export APPTAINERENV_ATTEMPT=$(wc -l <"$HOME/attempts")';
    await kubelet.writeStaticPod(
      name,
      pod(name, [{
        name: "main",
        script: 'echo attempt $ATTEMPT; [ "$ATTEMPT" -ge 3 ]',
        env: { CLUSTER_CONFIG: prerun },
      }], { restartPolicy: "OnFailure" }),
    );
    // The kubelet keeps the logs of the last attempts only, so they are read as they come.
    const logs: string[][] = [];
    const found = await until(kubelet, name, "ended", (found) => {
      const attempt = found?.status.containerStatuses?.[0]?.restartCount ?? 0;
      if (found !== undefined) {
        stdoutOf(found, "main", attempt).then((lines) => logs[attempt] = lines, () => {});
      }
      return ended(found);
    });
    assertEquals(found.status.phase, "Succeeded");
    assertEquals(found.status.containerStatuses?.[0]?.restartCount, 2);
    await delay(POLL_MS);
    assertEquals(logs, [["attempt 1"], ["attempt 2"], ["attempt 3"]]);
    assertEquals((await jobsOf(name)).length, 3);
    await kubelet.removeStaticPod(name);
    await until(kubelet, name, "gone", (found) => found === undefined);
    await onCluster("rm attempts");
  }));

Deno.test("init containers run once each and in order before the pod's own", () =>
  withKubelet(async (kubelet) => {
    const name = `staged-${RUN}`;
    const stamp = "date +%s%N";
    await kubelet.writeStaticPod(
      name,
      pod(name, [{ name: "main", script: stamp }], {
        initContainers: [{ name: "one", script: stamp }, { name: "two", script: stamp }].map(
          container,
        ),
      }),
    );
    const found = await until(kubelet, name, "ended", ended);
    assertEquals(found.status.phase, "Succeeded");
    const stamps: string[] = [];
    for (const one of ["one", "two", "main"]) stamps.push(...await stdoutOf(found, one));
    assertEquals(stamps.length, 3);
    // Nanoseconds since the epoch have as many digits for centuries.
    assertEquals(stamps, stamps.toSorted());
    assertEquals((await jobsOf(name)).length, 3);
    await kubelet.removeStaticPod(name);
    await until(kubelet, name, "gone", (found) => found === undefined);
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
      await kubelet.writeStaticPod(podName, pod(podName, [{ name: "main", script, more }]));
      const found = await until(kubelet, podName, "ended", ended);
      assertStringIncludes(
        found.status.containerStatuses?.[0]?.state.terminated?.message ?? "",
        message,
      );
      await kubelet.removeStaticPod(podName);
      await until(kubelet, podName, "gone", (found) => found === undefined);
    }));
}

Deno.test("probes and hooks wait for the queue, and then tell the truth", () =>
  withKubelet(async (kubelet) => {
    const name = `probed-${RUN}`;
    await kubelet.writeStaticPod(
      name,
      pod(name, [{
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
      }]),
    );
    await delay(QUEUE_MS);
    const [job = ""] = await jobsOf(name);
    await onCluster(`scontrol release ${job}`);
    const found = await until(
      kubelet,
      name,
      "ready",
      (found) => found?.status.containerStatuses?.[0]?.ready === true,
    );
    assertEquals(found.status.containerStatuses?.[0]?.restartCount, 0);
    assertEquals(await jobsOf(name), [job]);
    await kubelet.removeStaticPod(name);
    await until(kubelet, name, "gone", (found) => found === undefined);
  }));
