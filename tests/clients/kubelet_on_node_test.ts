/**
 * What a real kubelet makes of pods on the node itself, each in a network of its own: a pod for each subject, all at
 * the same time.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { clientFile } from "../../scripts/clients.ts";
import { type ControlPlane, startControlPlane } from "../../scripts/lab/control_plane.ts";
import { Kubelet, NODE_NAME } from "../../scripts/lab/kubelet.ts";
import { KNODE_PATHS } from "../../scripts/lab/settings.ts";
import { NetworkNode, type Remains } from "../network_node.ts";
import { leftOnNode } from "../node_leftovers.ts";
import {
  IMAGE,
  outputOf,
  pod,
  removeStaticPod,
  RUN,
  until,
  untilEnded,
  untilGone,
  untilPod,
} from "./pods.ts";
import {
  INIT_SCRIPTS,
  MAIN_SCRIPT,
  mainOutput,
  settings,
  VOLUME_MOUNTS,
  volumeFields,
  volumeObjects,
  WORK_MOUNT,
} from "./volume_pod.ts";

let node: NetworkNode;
let plane: ControlPlane;
let kubelet: Kubelet;
let before: Remains;

/** A Container of the Kubernetes API that runs a shell script. */
const container = (name: string, script: string, more: Record<string, unknown> = {}) => ({
  name,
  image: IMAGE,
  command: ["/bin/sh", "-c", script],
  ...more,
});

/** A PodSpec of the Kubernetes API for the lab's node. */
const specOf = (containers: unknown[], more: Record<string, unknown> = {}) => ({
  nodeName: NODE_NAME,
  restartPolicy: "Never",
  terminationGracePeriodSeconds: 5,
  containers,
  ...more,
});

/** A folder of the node that a pod mounts by its path. */
const SHARED = "/run/kubelet-on-node";
const WORK_VOLUME = { name: "work", emptyDir: {} };

const STATIC = specOf([
  container(
    "main",
    'echo "found $(ls /work)"; echo why >/dev/termination-log; [ -e /work/tried ] || { : >/work/tried; exit 3; }',
    WORK_MOUNT,
  ),
], {
  restartPolicy: "OnFailure",
  volumes: [WORK_VOLUME],
  initContainers: [container("init", ": >/work/init", WORK_MOUNT)],
});

const VOLUMES = specOf([container("main", MAIN_SCRIPT, VOLUME_MOUNTS)], {
  ...volumeFields(RUN),
  initContainers: INIT_SCRIPTS.map((script, index) =>
    container(`init-${index}`, script, WORK_MOUNT)
  ),
});

const EACH_SECOND = { periodSeconds: 1, timeoutSeconds: 5 };
const PROBED = specOf([
  container("web", "mkdir /www; echo page >/www/index.html; httpd -f -p 8080 -h /www", {
    startupProbe: {
      httpGet: { path: "/index.html", port: 8080 },
      ...EACH_SECOND,
      failureThreshold: 60,
    },
    livenessProbe: { tcpSocket: { port: 8080 }, ...EACH_SECOND },
    readinessProbe: { exec: { command: ["test", "-e", "/www/index.html"] }, ...EACH_SECOND },
  }),
  container("sick", "trap 'exit 9' TERM; echo up; while :; do sleep 0.1; done", {
    livenessProbe: { exec: { command: ["false"] }, ...EACH_SECOND, failureThreshold: 1 },
  }),
  container("unready", "exec sleep 600", {
    readinessProbe: { httpGet: { path: "/absent", port: 8080 }, ...EACH_SECOND },
  }),
], { restartPolicy: "Always" });

const STREAMS = specOf([
  container("main", "httpd -p 127.0.0.1:8123 -h /etc; echo begun; exec sleep 600", {
    lifecycle: {
      postStart: { exec: { command: ["sh", "-c", "echo started >>/host/hooks"] } },
      preStop: { exec: { command: ["sh", "-c", "echo stopping >>/host/hooks"] } },
    },
    volumeMounts: [{ name: "host", mountPath: "/host" }],
  }),
  container("attached", 'while read line; do echo "got $line"; done; echo over', {
    stdin: true,
    stdinOnce: true,
  }),
], { volumes: [{ name: "host", hostPath: { path: SHARED, type: "DirectoryOrCreate" } }] });

const LIMITED = specOf([
  container("hungry", "tail /dev/zero", {
    resources: { limits: { memory: "24Mi", cpu: "500m" } },
  }),
  container(
    "user",
    "id -u; id -g; id -G; grep -E '^(NoNewPrivs|CapEff|Seccomp):' /proc/self/status; touch /x || touch /data/x; ls -ln /data | grep -c ' 2000 .* x$'",
    {
      securityContext: {
        runAsUser: 1000,
        runAsGroup: 1001,
        readOnlyRootFilesystem: true,
        allowPrivilegeEscalation: false,
        capabilities: { drop: ["ALL"] },
        seccompProfile: { type: "RuntimeDefault" },
      },
      volumeMounts: [{ name: "work", mountPath: "/data" }],
    },
  ),
], { volumes: [WORK_VOLUME], securityContext: { fsGroup: 2000, supplementalGroups: [3000] } });

const USERS = specOf([
  container(
    "main",
    `awk '$1 == 0 && $2 >= 65536 && $3 == 65536 { print "users of its own" }' /proc/self/uid_map
stat -Lc '%u:%g %a' / /bin /work /own/name /etc/hosts; cat /own/name; echo; tail -n 1 /etc/hosts | grep -o users
: >/work/file && chown 5:6 /work/file && stat -c %u:%g /work/file; : >/dev/shm/x && echo why >/dev/termination-log
httpd -p 127.0.0.1:80 -h /etc; exec sleep 600`,
    { volumeMounts: [{ name: "own", mountPath: "/own" }, { name: "work", mountPath: "/work" }] },
  ),
], {
  hostUsers: false,
  volumes: [WORK_VOLUME, {
    name: "own",
    downwardAPI: {
      defaultMode: 0o400,
      items: [{ path: "name", fieldRef: { fieldPath: "metadata.labels['app']" } }],
    },
  }],
});

const PODS = { users: USERS, volumes: VOLUMES, probed: PROBED, streams: STREAMS, limited: LIMITED };
const nameOf = (pod: keyof typeof PODS) => `${pod}-${RUN}`;

const apply = (items: unknown[]) =>
  plane.kubectlOk(["apply", "-f", "-"], JSON.stringify({ apiVersion: "v1", kind: "List", items }));

Deno.test.beforeAll(async () => {
  node = await NetworkNode.start("kubenode", { flags: ["--adapter-name", "singularity"] });
  before = await node.usedOnce();
  await node.sh(`rm -rf ${SHARED}`);
  plane = await startControlPlane(node.lab);
  kubelet = kubeletWith({});
  await kubelet.start();
  await kubelet.writeStaticPod("static", pod("static", STATIC));
  await apply(volumeObjects(RUN));
  await apply(
    Object.entries(PODS).map(([name, spec]) => {
      const metadata = { name: nameOf(name as keyof typeof PODS), namespace: "default" };
      return { ...pod(metadata.name, spec), metadata: { ...metadata, labels: { app: name } } };
    }),
  );
});
Deno.test.afterAll(async () => {
  await kubelet.remove();
  await plane.stop();
  await node.stop();
  await node.sh(`rm -rf ${SHARED}`);
});

function kubeletWith(featureGates: Record<string, boolean>): Kubelet {
  const { socketPath } = node.server;
  return new Kubelet(node.lab, { socketPath, controlPlane: plane, featureGates });
}

/** The server and the kubelet live from test to test, also when one of them starts them anew. */
const SHARED_PROGRAMS = { sanitizeOps: false, sanitizeResources: false };

/** Runs a bash script in the node, with `kubectl` as a function in it. */
async function bash(script: string): Promise<string> {
  const words = `${KNODE_PATHS.clients}/${clientFile("kubectl")} --kubeconfig ${plane.kubeconfig}`;
  const text = `export kubectl='${words}'; kubectl() { $kubectl "$@"; }\n${script}`;
  const { code, stdout, stderr } = await node.lab.exec("knode", ["bash", "-c", text], {
    timeoutMs: 60_000,
  });
  assertEquals(code, 0, stderr || stdout);
  return stdout;
}

Deno.test("a kubelet starts a static pod's container again on the node, after its init container", async () => {
  const found = await untilEnded(kubelet, "static");
  const [main] = found.status.containerStatuses ?? [];
  const { exitCode, reason, message } = main?.state.terminated ?? {};
  assertEquals([main?.restartCount, exitCode, reason, message], [1, 0, "Completed", "why\n"]);
  assertEquals((await outputOf(node.lab, found, "main", 1)).stdout, ["found init", "tried"]);
  await removeStaticPod(kubelet, "static");
});

Deno.test("a kubelet's volumes reach a pod on the node, also new versions of them", async () => {
  const name = nameOf("volumes");
  await untilPod(kubelet, name, "running", ({ status }) => status.phase === "Running");
  await apply([settings(RUN, "two")]);
  await plane.kubectlOk(["annotate", "pod", name, "note=new"]);
  const found = await untilEnded(kubelet, name);
  assertEquals(await outputOf(node.lab, found), {
    stdout: mainOutput(RUN),
    stderr: ["/bin/sh: line 6: can't create /settings/x: Read-only file system"],
  });
  assertEquals(found.status.phase, "Succeeded");
});

Deno.test("a kubelet probes a pod on the node by http, by a connection and by a command", async () => {
  const found = await untilPod(kubelet, nameOf("probed"), "probed", ({ status }) => {
    const [web, sick] = ["web", "sick"].map((name) =>
      status.containerStatuses?.find((one) => one.name === name)
    );
    return web?.ready === true && (sick?.restartCount ?? 0) > 0;
  });
  const of = (name: string) => found.status.containerStatuses?.find((one) => one.name === name);
  assertEquals([of("web")?.restartCount, of("unready")?.ready, of("unready")?.restartCount], [
    0,
    false,
    0,
  ]);
  // It has had its signal and its grace.
  assertEquals(of("sick")?.lastState?.terminated?.exitCode, 9);
});

Deno.test("a kubelet's limits, users and rights hold for a pod on the node", async () => {
  const found = await untilEnded(kubelet, nameOf("limited"));
  const ends = found.status.containerStatuses?.map(({ name, state }) => {
    return [name, state.terminated?.exitCode, state.terminated?.reason];
  });
  assertEquals(ends, [["hungry", 137, "OOMKilled"], ["user", 0, "Completed"]]);
  assertEquals(await outputOf(node.lab, found, "user"), {
    stdout: [
      ...["1000", "1001", "1001 2000 3000"],
      ...["CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"],
      "1",
    ],
    stderr: ["touch: /x: Read-only file system"],
  });
});

Deno.test("a kubelet's pod with users of its own works on the node as one without", async () => {
  const name = nameOf("users");
  await plane.kubectlOk(["wait", "--for=condition=Ready", `pod/${name}`, "--timeout=60s"]);
  const look = `kubectl exec ${name} -- sh -c 'id -u; wc -c </own/name'
$kubectl port-forward ${name} 18081:80 >/dev/null & forward=$!
until exec 3<>/dev/tcp/127.0.0.1/18081; do sleep 0.1; done 2>/dev/null
printf 'GET /hostname HTTP/1.0\\r\\n\\r\\n' >&3; tail -n 1 <&3
kill "$forward"; kubectl logs ${name}`;
  assertEquals((await bash(look)).trim().split("\n"), [
    // What a command and a port of it say.
    ...["0", "5", name],
    "users of its own",
    ...["0:0 755", "0:0 755", "0:0 777", "0:0 400", "0:0 644"],
    ...["users", "users", "5:6"],
  ]);
});

Deno.test("kubectl exec, attach, port-forward and logs reach a pod on the node", async () => {
  const name = nameOf("streams");
  await plane.kubectlOk(["wait", "--for=condition=Ready", `pod/${name}`, "--timeout=60s"]);
  const exec = await bash(
    `head -c 3000000 /dev/urandom >${SHARED}/sent
kubectl exec -i ${name} -c main -- cat <${SHARED}/sent | cmp - ${SHARED}/sent && echo same
kubectl exec ${name} -c main -- sh -c 'echo out; exit 7' 2>/dev/null; echo "code $?"`,
  );
  assertEquals(exec, "same\nout\ncode 7\n");
  const terminal = await bash(
    `export TERM=xterm; export -f kubectl
script -qec "bash -c 'stty rows 33 cols 101; kubectl exec -it ${name} -c main -- sh -c \\"until stty size | grep 33; do sleep 0.1; done; tty\\"'" /dev/null </dev/null`,
  );
  assertMatch(terminal, /33 101\r\n\/dev\/pts\/\d+\r\n/);
  assertEquals(
    await bash(`(echo one; echo two) | kubectl attach -i ${name} -c attached`),
    "got one\ngot two\nover\n",
  );
  assertEquals(await bash(`kubectl logs ${name} -c attached`), "got one\ngot two\nover\n");
  const forwarded = await bash(
    // Not by the function: a shell around kubectl would be killed in its place.
    `$kubectl port-forward ${name} 18080:8123 >/dev/null & forward=$!
until exec 3<>/dev/tcp/127.0.0.1/18080; do sleep 0.1; done 2>/dev/null
printf 'GET /hostname HTTP/1.0\\r\\n\\r\\n' >&3; tail -n 1 <&3
kill "$forward"`,
  );
  assertEquals(forwarded, `${name}\n`);
});

Deno.test(
  "a kubelet finds its pods on the node again when it and the server were restarted, and takes their figures from it",
  SHARED_PROGRAMS,
  async () => {
    const name = nameOf("streams");
    const earlier = await kubelet.pod(name);
    await node.killServer();
    await node.server.start();
    await kubelet.stop();
    kubelet = kubeletWith({ PodAndContainerStatsFromCRI: true });
    await kubelet.start();
    const ids = (pod: typeof earlier) =>
      pod?.status.containerStatuses?.map(({ containerID, restartCount }) => [
        containerID,
        restartCount,
      ]);
    await until(async () => {
      assertEquals(ids(await kubelet.pod(name)), ids(earlier));
      const { pods } = JSON.parse(await kubelet.get("/stats/summary"));
      const found = pods.find(({ podRef }: { podRef: { name: string } }) => podRef.name === name);
      assertEquals(found?.containers.length, 1);
      for (const { cpu, memory } of found.containers) {
        assert(cpu.usageCoreNanoSeconds > 0 && memory.workingSetBytes > 0, JSON.stringify(found));
      }
      assertEquals(found.network.name, "eth0");
      assert(found.network.rxBytes > 0, JSON.stringify(found.network));
      assertMatch(
        await kubelet.get("/metrics/cadvisor"),
        new RegExp(
          `container_network_receive_bytes_total{.*interface="eth0".*pod="${name}"} [1-9]`,
        ),
      );
    });
  },
);

Deno.test(
  "a kubelet's deletion of its pods leaves nothing on the node",
  SHARED_PROGRAMS,
  async () => {
    await plane.kubectlOk(["delete", "pods", "--all", "--wait"]);
    for (const name of Object.keys(PODS)) {
      await untilGone(
        kubelet,
        nameOf(name as keyof typeof PODS),
      );
    }
    assertEquals(await node.sh(`cat ${SHARED}/hooks`), "started\nstopping");
    await kubelet.stop();
    // The kubelet itself removes ended sandboxes, some minutes later; their networks are gone already.
    assertEquals(await node.remains(), before);
    await node.server.crictlOk(["rmp", "--all"]);
    await node.server.stop();
    assertEquals(await leftOnNode(node.server), "");
    await node.server.start();
  },
);
