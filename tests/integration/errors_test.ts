/** Bad input on the real lab: one clear sentence, and nothing left behind. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { join } from "@std/path";
import { Harness, type JobSpec } from "./harness.ts";

let harness: Harness;
Deno.test.beforeAll(async () => {
  harness = await Harness.start({ name: "badinput" });
});
Deno.test.afterAll(() => harness?.stop());

const command = ["/bin/sh", "-c", "echo never"];

/** Errors of CreateContainer: nothing was made, not even a record. */
const createErrors: { name: string; spec: JobSpec; says: RegExp }[] = [
  {
    name: "no host is named",
    spec: { cluster: { CLUSTER_HOST: undefined } },
    says: /CLUSTER_HOST must be set/,
  },
  {
    name: "no credentials are given",
    spec: { cluster: { CLUSTER_PASSWORD: undefined } },
    says: /CLUSTER_PASSWORD or CLUSTER_KEYVALUE must be set/,
  },
  {
    name: "the port is no number",
    spec: { cluster: { CLUSTER_PORT: "ssh" } },
    says: /CLUSTER_PORT as it must be a port number/,
  },
  {
    name: "the key is no key",
    spec: { cluster: { CLUSTER_KEYVALUE: "garbage" } },
    says: /key/,
  },
  {
    name: "the number of nodes is no number",
    spec: { cluster: { JOB_NUM_NODES: "many" } },
    says: /JOB_NUM_NODES as it must be/,
  },
  {
    name: "a queue's name could be an option",
    spec: { cluster: { JOB_QUEUE: "a b" } },
    says: /JOB_QUEUE as it must be/,
  },
  {
    name: "the module of MPI is a path",
    spec: { cluster: { MPI_VERSION: "/x" } },
    says: /MPI_VERSION/,
  },
  {
    name: "the image was not pulled",
    spec: { image: "multicri/docker.absent:1" },
    says: /pull it first/,
  },
  {
    name: "the image's name is malformed",
    spec: { image: "multicri/docker.UPPER" },
    says: /at character \d+/,
  },
];
for (const { name, spec, says } of createErrors) {
  Deno.test(`a container is refused with a sentence when ${name}`, async () => {
    const before = await harness.server.crictlOk(["ps", "-a", "-q"]);
    const failure = await harness.create({ command, ...spec }).then(
      () => undefined,
      (error: Error) => error.message,
    );
    assertMatch(failure ?? "it was created", says);
    assertEquals(await harness.server.crictlOk(["ps", "-a", "-q"]), before);
    for (const pod of (await harness.server.crictlOk(["pods", "-q", "--no-trunc"])).split("\n")) {
      if (pod !== "") await harness.server.crictlOk(["rmp", "--force", pod]);
    }
  });
}

/** Errors of StartContainer; the state tells the kubelet whether trying again can help. */
const startErrors: {
  name: string;
  cluster: Record<string, string>;
  says: RegExp;
  state: string;
}[] = [
  {
    name: "the password is wrong",
    cluster: { CLUSTER_PASSWORD: "wrong" },
    says: /jorge@[\d.]+:22.*(password|login|credentials)/i,
    state: "CONTAINER_EXITED",
  },
  {
    name: "the host is unknown",
    cluster: { CLUSTER_HOST: "no-such-host.invalid" },
    says: /no-such-host\.invalid/,
    state: "CONTAINER_CREATED",
  },
  {
    name: "the port is closed",
    cluster: { CLUSTER_PORT: "2222" },
    says: /[\d.]+:2222/,
    state: "CONTAINER_CREATED",
  },
  {
    name: "the queue does not exist",
    cluster: { JOB_QUEUE: "nowhere" },
    says: /refused the job:.*[Ii]nvalid partition/,
    state: "CONTAINER_EXITED",
  },
  {
    name: "the cluster cannot give what is asked",
    cluster: { JOB_GPU: "gpu:1" },
    says: /refused the job:/,
    state: "CONTAINER_EXITED",
  },
];
for (const { name, cluster, says, state } of startErrors) {
  Deno.test(`a start fails with a sentence and leaves nothing when ${name}`, async () => {
    const made = await harness.create({ command, cluster });
    const { code, stderr } = await harness.server.crictl(["start", made.container]);
    assert(code !== 0);
    assertMatch(stderr, says);
    assert(!stderr.includes(harness.lab.login.password), "the password was shown");
    const { status } = await harness.inspect(made.container);
    assertEquals(status.state, state);
    if (state === "CONTAINER_EXITED") {
      assertEquals([status.exitCode, status.reason], [128, "StartError"]);
      assertMatch(status.message, says);
    }
    assertEquals(await harness.jobsOf(made.container), []);
    assertEquals(await harness.onCluster(`find . -path '*${made.pod}*'`), "");
    await harness.removeCleanly(made);
  });
}

/** Errors that only the compute node can see; the job has been accepted by then. */
const jobErrors: { name: string; spec: JobSpec; exitCode: number; says: RegExp }[] = [
  {
    name: "its command has a newline",
    spec: { command: ["/bin/no\npe"] },
    exitCode: 128,
    says: /container runtime says: .*\/bin\/no pe/,
  },
  {
    name: "its working directory has a newline",
    spec: { command, workingDir: "/tm\np" },
    exitCode: 128,
    says: /container runtime says: .*\/tm p/,
  },
  {
    name: "its prerun script fails",
    spec: { command, cluster: { CLUSTER_CONFIG: "nosuchmodule load apptainer" } },
    exitCode: 127,
    says: /CLUSTER_CONFIG ended with code 127: .*nosuchmodule: command not found/,
  },
];
for (const { name, spec, exitCode, says } of jobErrors) {
  Deno.test(`a job ends with StartError and a sentence when ${name}`, async () => {
    const made = await harness.run(spec);
    const { status } = await harness.exited(made.container);
    assertEquals([status.exitCode, status.reason], [exitCode, "StartError"], status.message);
    assertMatch(status.message, says);
    await harness.removeCleanly(made);
  });
}

Deno.test("a start is refused naming both fingerprints when the host key has changed", async () => {
  const other = await Harness.start({ name: "hostkey" });
  try {
    const knownHosts = other.lab.path("knode", join(other.server.rootDir, "known_hosts"));
    const first = await other.run({ command: ["true"] });
    await other.exited(first.container);
    await other.removeCleanly(first);
    const pinned = await Deno.readTextFile(knownHosts);
    await other.server.stop();
    // The last bytes of the key, another key of the same type.
    await Deno.writeTextFile(knownHosts, pinned.replace(/.{10}$/m, "AAAAAAAAAA"));
    await other.server.start();
    const made = await other.create({ command });
    const { stderr } = await other.server.crictl(["start", made.container]);
    assertMatch(stderr, /SHA256:.*SHA256:/);
    assertMatch(stderr, /known_hosts/);
    assertEquals((await other.inspect(made.container)).status.state, "CONTAINER_EXITED");
    assertEquals(await other.jobsOf(made.container), []);
    await other.removeCleanly(made);
  } finally {
    await other.stop();
  }
});

const pullErrors: [string, string, RegExp][] = [
  ["the image does not exist", "multicri/docker-repository.lab/absent:1", /no such image/],
  ["the prefix is misspelt", "multicri/sigularity-repository.a/b", /singularity-repository/],
  [
    "the prefix of a plain name is misspelt",
    "dokcer-repository.busybox",
    /nearest known one is \\?"docker-repository/,
  ],
  [
    "the credentials of a prefixed name are not for its registry",
    "multicri/docker-repository.REGISTRY:5001/lab/busybox:1",
    /not sent: .*docker\.io only/,
  ],
  ["the registry is closed", "REGISTRY:5999/lab/busybox:1", /:5999/],
];
for (const [name, image, says] of pullErrors) {
  Deno.test(`a pull fails with a sentence when ${name}`, async () => {
    const { code, stderr } = await harness.server.crictl([
      ...["pull", "--creds", "user:password"],
      image.replace("REGISTRY", harness.lab.address("registry")),
    ]);
    assert(code !== 0);
    assertMatch(stderr, says);
    const work = harness.lab.path("knode", join(harness.server.cachePath, "work"));
    assertEquals(await Array.fromAsync(Deno.readDir(work)), []);
  });
}

const badCommandLines: [string[], RegExp][] = [
  [["--stream-port", "none"], /--stream-port 'none': it must be a port number/],
  [["--no-such-flag"], /Unknown flag '--no-such-flag'/],
  [["--root-dir", "relative"], /--root-dir 'relative': it must be an absolute path/],
];
for (const [flags, says] of badCommandLines) {
  Deno.test(`the server ends with 2 and a sentence when started with ${flags.join(" ")}`, async () => {
    const { code, stderr } = await harness.lab.exec("knode", [...harness.server.argv, ...flags], {
      env: harness.server.env,
    });
    assertEquals(code, 2);
    assertMatch(stderr, says);
    assertEquals(stderr.trim().split("\n").length, 1, stderr);
  });
}

Deno.test("a second server ends with a sentence when its socket is served already", async () => {
  const { code, stderr } = await harness.lab.exec("knode", harness.server.argv, {
    env: { MULTICRI_DENO: harness.lab.knodeDeno, DENO_DIR: "/opt/deno-dir", PATH: "/usr/bin:/bin" },
  });
  assertEquals(code, 1);
  assertMatch(stderr, /Another multicri may be using them/);
  await harness.server.crictlOk(["version"]);
});
