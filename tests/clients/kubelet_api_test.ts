/** A real kubelet and the Kubernetes API: pods by RuntimeClass, and Jobs whose attempts are Slurm jobs. */
import { assert, assertEquals } from "@std/assert";
import { type ControlPlane, startControlPlane } from "../../scripts/lab/control_plane.ts";
import { Kubelet, NODE_NAME, type PodStatus } from "../../scripts/lab/kubelet.ts";
import { Lab } from "../../scripts/lab/lab.ts";
import { NodeServer } from "../../scripts/lab/node_server.ts";
import { bindVolume } from "./persistent_volume.ts";
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
import {
  container,
  jobsOf,
  nothingLeft,
  onCluster,
  outputOf,
  pod,
  podSpec,
  prepareLab,
  RUN,
  type ScriptContainer,
  until,
  untilEnded,
  untilGone,
  untilNoJobs,
  untilPod,
} from "./pods.ts";

const lab = new Lab();
const server = new NodeServer(lab, { name: "kubelet-api" });
let plane: ControlPlane;
let kubelet: Kubelet;

Deno.test.beforeAll(async () => {
  await prepareLab(lab);
  await server.forget();
  await server.start();
  plane = await startControlPlane(lab);
  const runtimeClass = new URL("../../deploy/runtimeclass.yaml", import.meta.url);
  await plane.kubectlOk(["apply", "-f", "-"], await Deno.readTextFile(runtimeClass));
  kubelet = new Kubelet(lab, { socketPath: server.socketPath, controlPlane: plane });
  await kubelet.start();
});
Deno.test.afterAll(async () => {
  await kubelet?.remove();
  await plane?.stop();
  const pods = (await server.crictlOk(["pods", "--quiet"])).split("\n").filter((id) => id !== "");
  for (const id of pods) await server.crictlOk(["rmp", "--force", id]);
  await server.stop();
  await nothingLeft(lab);
});

/** A PodSpec that comes to the lab's node, without a scheduler, and by its RuntimeClass to the server. */
function classedSpec(one: ScriptContainer, restartPolicy: string): Record<string, unknown> {
  const place = { runtimeClassName: "multicri", nodeName: NODE_NAME };
  return podSpec(lab, [one], { ...place, restartPolicy });
}

Deno.test("a kubelet runs a pod of the API that names the RuntimeClass", async () => {
  const name = `classed-${RUN}`;
  const spec = classedSpec({ name: "main", script: "echo out; exit 7" }, "Never");
  await plane.kubectlOk(["apply", "-f", "-"], JSON.stringify(pod(name, spec)));
  const found = await untilEnded(kubelet, name);
  assertEquals(found.status.containerStatuses?.[0]?.state.terminated?.exitCode, 7);
  assertEquals((await outputOf(lab, found)).stdout, ["out"]);
  // By the kubelet's own server, as a user reads it.
  const log = await plane.kubectlOk(["logs", name]);
  assertEquals(log.split("\n").filter((line) => !line.startsWith("multicri: ")), ["out"]);
  await plane.kubectlOk(["delete", "pod", name, "--wait"]);
  await untilGone(kubelet, name);
});

/** Which part of the persistent volume the container mounts; the kubelet makes it. */
const PART = "runs/one";
const PART_MOUNT = { name: "persistent", mountPath: "multicri", subPath: PART };
const PART_SCRIPT = 'cat /multicri/file; echo answer >"$MULTICRI_RESULTS_DIR/result"';

Deno.test("a kubelet's init containers run in order and its volumes reach the job, also new versions of them", async () => {
  const name = `volumes-${RUN}`;
  const objects = (items: unknown[]) =>
    plane.kubectlOk(
      ["apply", "-f", "-"],
      JSON.stringify({ apiVersion: "v1", kind: "List", items }),
    );
  const more = { volumeMounts: [...VOLUME_MOUNTS.volumeMounts, PART_MOUNT] };
  const [main] = podSpec(lab, [{ name: "main", script: PART_SCRIPT + MAIN_SCRIPT, more }])
    .containers as Record<string, unknown>[];
  const initContainers = INIT_SCRIPTS.map((script, index) =>
    container(lab, { name: `init-${index}`, script, more: WORK_MOUNT })
  );
  const spec = classedSpec({ name: "main", script: "" }, "Never");
  const fields = volumeFields(RUN);
  const persistent = { name: "persistent", persistentVolumeClaim: { claimName: name } };
  const volumes = [...fields.volumes, persistent];
  const made = pod(name, { ...spec, ...fields, volumes, initContainers, containers: [main] });
  const metadata = { name, namespace: "default", labels: { app: "volumes" } };
  await lab.exec("knode", ["mkdir", "-p", `/srv/${name}`]);
  await bindVolume(plane, name, `/srv/${name}`);
  const part = `multi-cri/${name}/${PART}`;
  await onCluster(lab, `mkdir -p ${part}; echo of the cluster >${part}/file`);
  await objects([...volumeObjects(RUN), { ...made, metadata }]);
  await untilPod(kubelet, name, "running", ({ status }) => status.phase === "Running");
  await objects([settings(RUN, "two")]);
  await plane.kubectlOk(["annotate", "pod", name, "note=new"]);
  const found = await untilEnded(kubelet, name);
  assertEquals(found.status.phase, "Succeeded");
  assertEquals(await outputOf(lab, found), {
    stdout: ["of the cluster", ...mainOutput(RUN)],
    stderr: ["/bin/sh: line 6: can't create /settings/x: Read-only file system"],
  });
  const ended = [...found.status.initContainerStatuses ?? []].map(({ state }) => state.terminated);
  assertEquals(ended.map((end) => end?.exitCode), [0, 0]);
  await plane.kubectlOk(["delete", "pod", name, "--wait"]);
  await untilGone(kubelet, name);
  const results = `cat ${part}/*/*/result; rm -r multi-cri/${name}`;
  assertEquals((await onCluster(lab, results)).trim(), "answer");
});

Deno.test("a kubelet's pod shares one job, with a sidecar and restarts, when it is annotated so", async () => {
  const name = `allocated-${RUN}`;
  const work = { volumeMounts: [{ name: "work", mountPath: "/work" }] };
  const make = (name: string, script: string, more = {}) =>
    container(lab, { name, script, more: { ...work, ...more } });
  const spec = {
    ...classedSpec({ name: "main", script: "" }, "OnFailure"),
    volumes: [{ name: "work", emptyDir: {} }],
    initContainers: [
      make("init", "echo from init >/work/page"),
      make("sidecar", "httpd -f -p 127.0.0.1:18282 -h /work", { restartPolicy: "Always" }),
    ],
    containers: [
      make(
        "main",
        "wget -qO- http://127.0.0.1:18282/page; echo again >>/work/page; [ $(wc -l </work/page) -ge 3 ]",
      ),
    ],
  };
  const metadata = {
    name,
    namespace: "default",
    annotations: { "multicri.io/allocation": "pod" },
  };
  await plane.kubectlOk(["apply", "-f", "-"], JSON.stringify({ ...pod(name, spec), metadata }));
  const found = await untilEnded(kubelet, name);
  assertEquals([found.status.phase, found.status.containerStatuses?.[0]?.restartCount], [
    "Succeeded",
    1,
  ]);
  assertEquals((await outputOf(lab, found, "main", 1)).stdout, ["from init", "again"]);
  assertEquals((await jobsOf(lab, found)).length, 1);
  await plane.kubectlOk(["delete", "pod", name, "--wait"]);
  await untilGone(kubelet, name);
});

const UNUSABLE_IMAGES: Record<string, string> = {
  // The kubelet parses names before it asks a runtime: no port after the prefix, no upper case.
  "multicri/docker-repository.registry:5000/x": "InvalidImageName",
  "multicri/docker.Perl": "InvalidImageName",
  "multicri/docker-repository.lab/absent:1": "the registry has no such image",
};
for (const [index, [image, words]] of Object.entries(UNUSABLE_IMAGES).entries()) {
  Deno.test(`a pod says why it waits when its image is ${image}`, async () => {
    const name = `unusable-${index}-${RUN}`;
    const spec = classedSpec({ name: "main", image, script: "true" }, "Never");
    await plane.kubectlOk(["apply", "-f", "-"], JSON.stringify(pod(name, spec)));
    await untilPod(kubelet, name, `waiting with "${words}"`, ({ status }) => {
      const { reason = "", message = "" } = status.containerStatuses?.[0]?.state.waiting ?? {};
      return `${reason}: ${message}`.includes(words);
    });
    await plane.kubectlOk(["delete", "pod", name, "--wait"]);
    await untilGone(kubelet, name);
  });
}

interface ImageCase {
  image: string;
  pullSecret?: boolean;
  /** What the pod waits with; undefined: it runs. */
  refusal?: string;
}
/** Names of one image as users write them. */
const IMAGES: Record<string, ImageCase> = {
  prefixed: { image: "multicri/docker-repository.lab/entry:1" },
  plain: { image: "lab/entry:1" },
  private: { image: `${lab.guardedRegistry.address}/lab/entry:1`, pullSecret: true },
  secretless: {
    image: `${lab.guardedRegistry.address}/lab/entry:1`,
    refusal: "the registry refuses the credentials",
  },
  // Credentials that a kubelet found for a prefixed name are docker.io's; see the README.
  misled: {
    image: `multicri/docker-repository.${
      lab.guardedRegistry.address.replace(":", "0x--3a")
    }/lab/entry:1`,
    pullSecret: true,
    refusal: "the registry refuses the credentials",
  },
};

Deno.test("a kubelet pulls an image by each of its names, finds it there again, and passes its secrets on", async () => {
  const { address, username, password } = lab.guardedRegistry;
  const secret = `registry-${RUN}`;
  const auths = { [address]: { auth: btoa(`${username}:${password}`) } };
  await plane.kubectlOk(
    ["apply", "-f", "-"],
    JSON.stringify({
      apiVersion: "v1",
      kind: "Secret",
      metadata: { name: secret },
      type: "kubernetes.io/dockerconfigjson",
      stringData: { ".dockerconfigjson": JSON.stringify({ auths }) },
    }),
  );
  const annotations = { "multicri.io/runtime-handler": "multicri" };
  const apply = async (name: string, { image, pullSecret }: ImageCase, policy: string) => {
    const more = { imagePullPolicy: policy };
    const spec = {
      ...classedSpec({ name: "main", image, script: "exit 3", more }, "Never"),
      imagePullSecrets: pullSecret ? [{ name: secret }] : [],
    };
    const { metadata, ...rest } = pod(name, spec) as { metadata: Record<string, unknown> };
    const manifest = { ...rest, metadata: { ...metadata, annotations } };
    await plane.kubectlOk(["apply", "-f", "-"], JSON.stringify(manifest));
  };
  const ids = new Set<string>();
  await Promise.all(
    Object.entries(IMAGES).map(async ([what, one]) => {
      const name = `${what}-${RUN}`;
      await apply(name, one, "Always");
      if (one.refusal !== undefined) {
        await untilPod(
          kubelet,
          name,
          "refused",
          ({ status }) =>
            (status.containerStatuses?.[0]?.state.waiting?.message ?? "").includes(
              one.refusal ?? "",
            ),
        );
      } else {
        const [main] = (await untilEnded(kubelet, name)).status.containerStatuses ?? [];
        assertEquals([main?.image, main?.state.terminated?.exitCode], [one.image, 3]);
        ids.add(main?.imageID.replace(/^.*@/, "") ?? "");
        // Only a name that the runtime lists and finds counts as present.
        await apply(`${name}-again`, one, "Never");
        await untilEnded(kubelet, `${name}-again`);
        await plane.kubectlOk(["delete", "pod", `${name}-again`, "--wait"]);
      }
      await plane.kubectlOk(["delete", "pod", name, "--wait"]);
    }),
  );
  assertEquals(ids.size, 1);
  for (const what of Object.keys(IMAGES)) await untilGone(kubelet, `${what}-${RUN}`);
});

/** Counted outside the container, whose own files are new each time. */
const COUNTED = {
  CLUSTER_CONFIG:
    'echo x >>"$HOME/attempts"; export APPTAINERENV_ATTEMPT=$(wc -l <"$HOME/attempts")',
};

/** Runs a Job, hands its name to `during`, and removes it. Returns the reason for each condition that is true. */
async function runJob(
  name: string,
  spec: Record<string, unknown>,
  during: (names: () => Promise<string[]>) => Promise<void>,
): Promise<Record<string, string>> {
  await onCluster(lab, "rm -f attempts");
  const job = { apiVersion: "batch/v1", kind: "Job", metadata: { name }, spec };
  await plane.kubectlOk(["apply", "-f", "-"], JSON.stringify(job));
  const podNames = async () => {
    const path = "jsonpath={range .items[*]}{.metadata.name} {end}";
    const pods = await plane.kubectlOk([
      "get",
      "pods",
      "--selector",
      `job-name=${name}`,
      "-o",
      path,
    ]);
    return pods.split(" ").filter((name) => name !== "");
  };
  await during(podNames);
  const conditions = await until(async () => {
    const { status } = JSON.parse(await plane.kubectlOk(["get", "job", name, "-o", "json"]));
    const conditions: { type: string; status: string; reason?: string }[] = status.conditions ?? [];
    const isOver = conditions.some(({ type }) => type === "Complete" || type === "Failed");
    assert(isOver, `The Job ${name} has not ended: ${JSON.stringify(status)}`);
    return conditions;
  });
  const names = await podNames();
  // No controller collects the pods of a Job that is gone.
  await plane.kubectlOk(["delete", "job", name]);
  for (const one of names) {
    await plane.kubectlOk(["delete", "pod", one, "--wait"]);
    await untilGone(kubelet, one);
  }
  await untilNoJobs(lab);
  await onCluster(lab, "rm attempts");
  return Object.fromEntries(
    conditions.filter(({ status }) => status === "True")
      .map(({ type, reason }) => [type, reason ?? ""]),
  );
}

/** Waits for the Job's first pod. */
async function firstPod(names: () => Promise<string[]>): Promise<string> {
  return await until(async (): Promise<string> => {
    const [name] = await names();
    if (name === undefined) throw new Error("The Job has no pod");
    return name;
  });
}

Deno.test("a Job that restarts on failure has three attempts with their logs when two fail", async () => {
  const spec = classedSpec({
    name: "main",
    // The kubelet keeps only the last dead container and its log: there must be time to read it.
    script: 'echo attempt $ATTEMPT; sleep 3; [ "$ATTEMPT" -ge 3 ]',
    env: COUNTED,
  }, "OnFailure");
  const logs: string[][] = [];
  const conditions = await runJob(`retried-${RUN}`, { template: { spec } }, async (names) => {
    const name = await firstPod(names);
    let found: PodStatus | undefined;
    for (let attempt = 0; attempt < 3; attempt++) {
      found = await untilPod(kubelet, name, `through attempt ${attempt + 1}`, ({ status }) => {
        const [main] = status.containerStatuses ?? [];
        const { restartCount = 0, state } = main ?? {};
        return restartCount > attempt ||
          (restartCount === attempt && state?.terminated !== undefined);
      });
      logs.push((await outputOf(lab, found, "main", attempt)).stdout);
    }
    if (found !== undefined) assertEquals((await jobsOf(lab, found)).length, 3);
  });
  assertEquals(logs, [["attempt 1"], ["attempt 2"], ["attempt 3"]]);
  assertEquals(Object.keys(conditions).sort(), ["Complete", "SuccessCriteriaMet"]);
});

/** What a Job that starts no second pod on failure makes of an end, by the end's code. */
const POLICY = {
  backoffLimit: 0,
  podFailurePolicy: {
    rules: [
      { action: "FailJob", onExitCodes: { operator: "In", values: [42] } },
      // Cancelled by others: no fault of the program.
      { action: "Ignore", onExitCodes: { operator: "In", values: [221] } },
    ],
  },
};

Deno.test("a Job fails for its podFailurePolicy when the program ends with a code of it", async () => {
  const template = {
    spec: classedSpec({ name: "main", script: "exit 42", env: COUNTED }, "Never"),
  };
  const conditions = await runJob(`hopeless-${RUN}`, { ...POLICY, template }, async (names) => {
    await untilEnded(kubelet, await firstPod(names));
  });
  assertEquals(conditions, { Failed: "PodFailurePolicy", FailureTarget: "PodFailurePolicy" });
});

Deno.test("a Job tries again for its podFailurePolicy when somebody cancels the Slurm job", async () => {
  const script = '[ "$ATTEMPT" -ge 2 ] || sleep 600';
  const template = { spec: classedSpec({ name: "main", script, env: COUNTED }, "Never") };
  const conditions = await runJob(`cancelled-${RUN}`, { ...POLICY, template }, async (names) => {
    const name = await firstPod(names);
    let found = await untilPod(
      kubelet,
      name,
      "running",
      ({ status }) => status.phase === "Running",
    );
    await until(() => onCluster(lab, "cat attempts"));
    const [job = ""] = await jobsOf(lab, found);
    await onCluster(lab, `scancel ${job}`);
    found = await untilPod(kubelet, name, "cancelled", ({ status }) => status.phase === "Failed");
    assertEquals(found.status.containerStatuses?.[0]?.state.terminated?.exitCode, 221);
  });
  assertEquals(Object.keys(conditions).sort(), ["Complete", "SuccessCriteriaMet"]);
});
