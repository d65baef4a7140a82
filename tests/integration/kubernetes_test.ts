/** What Kubernetes asks of a container, as a Slurm job has it. */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { basename, dirname } from "@std/path";
import { Lab } from "../../scripts/lab/lab.ts";
import { Harness } from "./harness.ts";
import { mount } from "./pod_directory.ts";

const CLUSTERS_FILE = "/etc/multicri-clusters.yaml";

let harness: Harness;
Deno.test.beforeAll(async () => {
  const lab = new Lab();
  await lab.up();
  const { host, port, user, password } = lab.login;
  const file = JSON.stringify({
    default: "lab",
    clusters: {
      lab: { host, port, user, password },
      closed: { host, port, user, password, namespaces: ["elsewhere"] },
    },
  });
  // JSON is YAML.
  await Deno.writeTextFile(lab.path("knode", CLUSTERS_FILE), file, { mode: 0o600 });
  harness = await Harness.start({ name: "kube", flags: ["--clusters-file", CLUSTERS_FILE] });
});
Deno.test.afterAll(() => harness?.stop());

const sh = (script: string) => ["/bin/sh", "-c", script];

/** No credentials in the container: the node's are used. */
const NODE_LOGIN = {
  CLUSTER_HOST: undefined,
  CLUSTER_PORT: undefined,
  CLUSTER_USERNAME: undefined,
  CLUSTER_PASSWORD: undefined,
};

const terminationPaths: [string, Record<string, string>][] = [
  ["/dev/termination-log", {}],
  ["/multi/message", { "io.kubernetes.container.terminationMessagePath": "/multi/message" }],
];
for (const [path, annotations] of terminationPaths) {
  Deno.test(`a termination message is there when the container has exited and it lies at ${path}`, async () => {
    const hostPath = `/var/lib/kubelet/pods/${crypto.randomUUID()}/containers/main/1a2b3c4d`;
    const onMachine = harness.lab.path("knode", hostPath);
    await Deno.mkdir(dirname(onMachine), { recursive: true });
    await Deno.writeTextFile(onMachine, "");
    const made = await harness.run({
      command: sh(`echo "it's done: $0" >${path}; exit 3`),
      containerAnnotations: annotations,
      mounts: [{ host_path: hostPath, container_path: path }],
    });
    assertEquals((await harness.exited(made.container)).status.exitCode, 3);
    assertEquals(await Deno.readTextFile(onMachine), "it's done: /bin/sh\n");
    await harness.removeCleanly(made);
  });
}

const refused: [string, Record<string, unknown>, RegExp][] = [
  ["it is privileged", { security_context: { privileged: true } }, /securityContext\.privileged/],
  [
    "it adds capabilities",
    { security_context: { capabilities: { add_capabilities: ["NET_ADMIN"] } } },
    /capabilities\.add/,
  ],
  [
    "it wants the node's processes",
    { security_context: { namespace_options: { pid: 2 } } },
    /hostPID/,
  ],
];
for (const [name, linux, says] of refused) {
  Deno.test(`a container is refused with a sentence when ${name}`, async () => {
    const failure = await harness.create({ command: ["true"], linux }).then(
      () => "it was created",
      (error: Error) => error.message,
    );
    assertMatch(failure, says);
  });
}

Deno.test("a container says what it does without when it asks for users and groups", async () => {
  const made = await harness.run({
    command: sh("id -u"),
    linux: { security_context: { run_as_user: { value: 4711 }, supplemental_groups: [5] } },
  });
  await harness.exited(made.container);
  const { stdout, own } = await harness.logs(made.container);
  assertEquals(stdout, ["1000"]);
  assertStringIncludes(own.join("\n"), "left out: runAsUser");
  assertStringIncludes(own.join("\n"), "left out: supplementalGroups");
  await harness.removeCleanly(made);
});

Deno.test("a job asks for the cores and memory of its container when nothing else says how many", async () => {
  const resources = { cpu_period: 100000, cpu_quota: 150000, memory_limit_in_bytes: 300_000_000 };
  const made = await harness.run({ command: sh("sleep 600"), linux: { resources } });
  const { info } = await harness.running(made.container);
  const job = await harness.onCluster(`scontrol --oneliner show job ${info.slurm.jobId}`);
  assertMatch(job, /\bCPUs\/Task=2\b/);
  assertMatch(job, /\bMinMemoryNode=287M\b/);
  await harness.removeCleanly(made);
});

Deno.test("a job runs with the node's login when its container brings none", async () => {
  const made = await harness.run({ command: sh("echo as $(id -u)"), cluster: NODE_LOGIN });
  assertEquals((await harness.exited(made.container)).status.exitCode, 0);
  assertEquals((await harness.logs(made.container)).stdout, ["as 1000"]);
  const { stdout } = await harness.lab.exec("knode", [
    "grep",
    "-rlF",
    harness.lab.login.password,
    harness.server.stateDir,
  ]);
  assertEquals(stdout, "", "the node's password was copied");
  await harness.removeCleanly(made);
});

const chosen: [string, Record<string, string>, Record<string, string | undefined>, RegExp][] = [
  ["the cluster is unknown", { "multicri.io/cluster": "moon" }, {}, /must be lab or closed/],
  ["the namespace may not use it", { "multicri.io/cluster": "closed" }, {}, /namespace tests/],
  ["it wants to run a prerun script", {}, { CLUSTER_CONFIG: "id" }, /CLUSTER_CONFIG/],
  ["it wants to run ranks", {}, { MPI_VERSION: "default" }, /run MPI/],
  [
    "it sets what srun runs",
    {},
    { JOB_CUSTOM_CONFIG: "SLURM_TASK_PROLOG=/x" },
    /SLURM_TASK_PROLOG/,
  ],
  ["it brings only a password", {}, { CLUSTER_PASSWORD: "x" }, /CLUSTER_HOST must be set/],
];
for (const [name, annotations, cluster, says] of chosen) {
  Deno.test(`a container without a login is refused with a sentence when ${name}`, async () => {
    const failure = await harness.create({
      command: ["true"],
      annotations,
      cluster: { ...NODE_LOGIN, ...cluster },
    }).then(() => "it was created", (error: Error) => error.message);
    assertMatch(failure, says);
  });
}

Deno.test("a container without a login is refused with a sentence when it mounts what its pod can replace", async () => {
  const uid = crypto.randomUUID();
  const volumes = `/var/lib/kubelet/pods/${uid}/volumes/kubernetes.io~empty-dir`;
  const failure = await harness.create({
    command: ["true"],
    uid,
    mounts: ["/data", "/data/inside"].map((path) => mount(`${volumes}/${basename(path)}`, path)),
    cluster: NODE_LOGIN,
  }).then(() => "it was created", (error: Error) => error.message);
  assertMatch(failure, /Cannot mount .*\/data\/inside.*prerun: true/);
});
