/** The main job on the real lab, driven by crictl alone. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { ENTRY, Harness } from "./harness.ts";

let harness: Harness;
Deno.test.beforeAll(async () => {
  harness = await Harness.start({ name: "mainjob" });
  await harness.server.crictlOk(["pull", ENTRY]);
});
Deno.test.afterAll(() => harness?.stop());

const sh = (script: string) => ["/bin/sh", "-c", script];

const ends: { name: string; script: string; exitCode: number; reason: string }[] = [
  { name: "succeeds", script: "echo out; echo err >&2", exitCode: 0, reason: "Completed" },
  { name: "exits 7", script: "echo out; echo err >&2; exit 7", exitCode: 7, reason: "Error" },
  {
    name: "is killed by SIGKILL",
    script: "echo out; echo err >&2; kill -KILL $$",
    exitCode: 137,
    reason: "Error",
  },
  {
    name: "is killed by SIGSEGV",
    script: "echo out; echo err >&2; kill -SEGV $$",
    exitCode: 139,
    reason: "Error",
  },
];
for (const { name, script, exitCode, reason } of ends) {
  Deno.test(`a job reports its log and exit code when its program ${name}`, async () => {
    const made = await harness.run({ command: sh(script) });
    const { status, info } = await harness.exited(made.container);
    assertEquals([status.exitCode, status.reason], [exitCode, reason]);
    const { stdout, stderr, own } = await harness.logs(made.container);
    assertEquals([stdout, stderr], [["out"], ["err"]]);
    assertStringIncludes(
      own.join("\n"),
      `job ${info.slurm.jobId} submitted to ${info.slurm.account}`,
    );
    assertStringIncludes(own.join("\n"), `job ${info.slurm.jobId} runs on ${info.slurm.job?.host}`);
    const times = [status.createdAt, status.startedAt, status.finishedAt].map(Date.parse);
    assertEquals(times, times.toSorted((a, b) => a - b));
    await harness.removeCleanly(made);
  });
}

Deno.test("a job's log can be read when the job still runs", async () => {
  const made = await harness.run({ command: sh("echo early; sleep 60; echo late") });
  const { status } = await harness.until(
    made.container,
    "logging",
    async () => (await harness.logs(made.container)).stdout.length > 0,
  );
  assertEquals(status.state, "CONTAINER_RUNNING");
  assertEquals((await harness.logs(made.container)).stdout, ["early"]);
  await harness.removeCleanly(made);
});

Deno.test("a job's log is continued in a new file when the log is reopened", async () => {
  const made = await harness.run({ command: sh("echo one; sleep 3; echo two; sleep 60") });
  const logged = (text: string) =>
    harness.until(
      made.container,
      `logging ${text}`,
      async () => (await harness.logs(made.container)).stdout.includes(text),
    );
  const { status } = await logged("one");
  const path = harness.lab.path("knode", status.logPath);
  await Deno.rename(path, `${path}.1`);
  await harness.server.crictlOk(["logs", "--reopen", made.container]);
  await logged("two");
  assertEquals((await harness.logs(made.container)).stdout, ["two"]);
  assertStringIncludes(await Deno.readTextFile(`${path}.1`), "stdout F one");
  await harness.removeCleanly(made);
});

Deno.test("a pending job is cancelled at once when it is stopped", async () => {
  const made = await harness.run({ command: sh("echo never"), cluster: { JOB_QUEUE: "held" } });
  const { status, info } = await harness.until(
    made.container,
    "pending with a reason",
    ({ info }) => info.slurm.pending !== undefined,
  );
  assertEquals(status.state, "CONTAINER_RUNNING");
  assertStringIncludes(info.slurm.pending?.reason ?? "", "Partition");
  await harness.server.crictlOk(["stop", "--timeout", "30", made.container]);
  const stopped = await harness.inspect(made.container);
  assertEquals([stopped.status.state, stopped.status.exitCode, stopped.status.reason], [
    "CONTAINER_EXITED",
    143,
    "Cancelled",
  ]);
  assertEquals((await harness.logs(made.container)).stdout, []);
  await harness.removeCleanly(made);
});

Deno.test("a running job gets SIGTERM once when it is stopped, and its own exit code counts", async () => {
  const made = await harness.run({
    command: sh("trap 'echo term' TERM; echo ready; for i in 1 2 3 4; do sleep 1; done; exit 9"),
  });
  await harness.until(
    made.container,
    "ready",
    async () => (await harness.logs(made.container)).stdout.includes("ready"),
  );
  await harness.server.crictlOk(["stop", "--timeout", "30", made.container]);
  const { status } = await harness.inspect(made.container);
  assertEquals([status.state, status.exitCode], ["CONTAINER_EXITED", 9]);
  assertEquals((await harness.logs(made.container)).stdout, ["ready", "term"]);
  await harness.removeCleanly(made);
});

Deno.test("a running job is killed when it ignores SIGTERM beyond its grace", async () => {
  const made = await harness.run({
    command: sh("trap '' TERM; echo ready; sleep 600 & wait; wait"),
  });
  await harness.until(
    made.container,
    "ready",
    async () => (await harness.logs(made.container)).stdout.includes("ready"),
  );
  await harness.server.crictlOk(["stop", "--timeout", "2", made.container]);
  const { status } = await harness.inspect(made.container);
  assertEquals([status.state, status.exitCode], ["CONTAINER_EXITED", 137]);
  await harness.removeCleanly(made);
});

Deno.test("a job says so when somebody else cancels it", async () => {
  const made = await harness.run({ command: sh("sleep 600") });
  const { info } = await harness.running(made.container);
  await harness.onCluster(`scancel ${info.slurm.jobId}`);
  const { status } = await harness.exited(made.container);
  assertEquals([status.exitCode, status.reason], [221, "Cancelled"]);
  assertStringIncludes(status.message, "CANCELLED");
  await harness.removeCleanly(made);
});

Deno.test("a running container is ended and removed when its pod is removed by force", async () => {
  const made = await harness.run({ command: sh("sleep 600") });
  await harness.running(made.container);
  await harness.removeCleanly(made);
});

const commands: { name: string; command?: string[]; args?: string[]; lines: string[] }[] = [
  { name: "neither is set", lines: ["arg1=from entrypoint", "arg2=from cmd", "arg3=$HOME"] },
  {
    name: "args are set",
    args: ["a b", "$(id)"],
    lines: ["arg1=from entrypoint", "arg2=a b", "arg3=$(id)"],
  },
  { name: "the command is set", command: ["/bin/show"], lines: [] },
  {
    name: "both are set",
    command: ["/bin/show", "x"],
    args: ["", "*"],
    lines: ["arg1=x", "arg2=", "arg3=*"],
  },
];
for (const { name, command = [], args = [], lines } of commands) {
  Deno.test(`an image's ENTRYPOINT and CMD combine as Kubernetes says when ${name}`, async () => {
    const made = await harness.run({ image: ENTRY, command, args });
    assertEquals((await harness.exited(made.container)).status.exitCode, 0);
    const { stdout } = await harness.logs(made.container);
    assertEquals(stdout.filter((line) => line.startsWith("arg")), lines);
    assert(stdout.includes(`GREETING=hello from the image's "$ENV"`), stdout.join("\n"));
    assert(stdout.includes("pwd=/srv/work"), stdout.join("\n"));
    await harness.removeCleanly(made);
  });
}

Deno.test("a program gets its variables byte for byte, and not those that are reserved", async () => {
  const env: Record<string, string> = {
    PLAIN: "x",
    QUOTES: `it's "quoted" \\ and \`id\` $(id) $HOME \${HOME}`,
    LINES: "one\ntwo\n\ttabbed\n",
    ENDS_WITH_BACKSLASH: "c:\\",
    EMPTY: "",
    UNICODE: "ünïcødé ☃ 𝄞",
    "dotted.name": "dots",
    "dashed-name": "dash es",
    JOB_COMPLETION_INDEX: "3",
    JOB_X_SERVICE_HOST: "10.0.0.1",
    KUBERNETES_SERVICE_HOST: "10.0.0.2",
    LONG: "y".repeat(50_000),
  };
  const made = await harness.run({ command: sh("env -0 | base64 -w 0"), env });
  assertEquals((await harness.exited(made.container)).status.exitCode, 0);
  const { stdout } = await harness.logs(made.container);
  const text = new TextDecoder().decode(Uint8Array.fromBase64(stdout.join("")));
  const seen = new Map(
    text.split("\0").map((
      line,
    ) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]),
  );
  const { KUBERNETES_SERVICE_HOST: _reserved, ...expected } = env;
  for (const [name, value] of Object.entries(expected)) assertEquals(seen.get(name), value, name);
  const leaked = [...seen.keys()].filter((name) =>
    /^(CLUSTER_|KUBERNETES_|JOB_QUEUE|SLURM_)/.test(name)
  );
  assertEquals(leaked, []);
  await harness.removeCleanly(made);
});

Deno.test("a job's commands are joined when && stands alone in its command", async () => {
  const made = await harness.run({
    command: ["echo", "one $HOME", "&&", "echo", "two", "||", "echo", "three"],
  });
  await harness.exited(made.container);
  assertEquals((await harness.logs(made.container)).stdout, ["one $HOME", "two"]);
  await harness.removeCleanly(made);
});

Deno.test("a prerun script changes the job's surroundings when CLUSTER_CONFIG is set", async () => {
  const made = await harness.run({
    command: sh("cat /marker"),
    cluster: {
      CLUSTER_CONFIG: "echo from prerun >marker\nexport APPTAINER_BIND=$PWD/marker:/marker",
    },
  });
  const { status } = await harness.exited(made.container);
  assertEquals(status.exitCode, 0);
  assertEquals((await harness.logs(made.container)).stdout, ["from prerun"]);
  await harness.onCluster(`rm multi-cri/${made.pod}/${made.container}/marker`);
  await harness.removeCleanly(made);
});

const keyForms: [string, (pem: string) => string][] = [
  ["as it is", (pem) => pem],
  ["with its newlines written as \\n", (pem) => pem.trim().replaceAll("\n", "\\n")],
  ["as base64", (pem) => btoa(pem)],
];
for (const [form, render] of keyForms) {
  Deno.test(`a job runs when CLUSTER_KEYVALUE holds a private key ${form}`, async () => {
    const key = await Deno.readTextFile(harness.lab.login.privateKeyPath);
    const made = await harness.run({
      command: ["true"],
      cluster: { CLUSTER_PASSWORD: undefined, CLUSTER_KEYVALUE: render(key) },
    });
    assertEquals((await harness.exited(made.container)).status.exitCode, 0);
    await harness.removeCleanly(made);
  });
}

Deno.test("a secret stands in no log, database, job script or status when a job runs with it", async () => {
  const marker = `marked-${crypto.randomUUID()}`;
  const made = await harness.run({ command: sh("sleep 600"), env: { APP_SECRET: marker } });
  const { info } = await harness.running(made.container);
  const { server, lab } = harness;
  for (const secret of [marker, lab.login.password]) {
    const search = ["grep", "-rlF", "--", secret];
    const onNode = await lab.exec("knode", [
      ...search,
      server.stateDir,
      server.rootDir,
      server.logPath,
      "/var/log/pods",
    ]);
    const own = `${server.stateDir}/secrets/${made.container}.json`;
    assertEquals(onNode.stdout.trim(), secret === marker ? "" : own);
    const { stdout } = await lab.exec("ctl", [...search, info.slurm.directory ?? ""]);
    assertEquals(stdout.trim(), secret === marker ? `${info.slurm.directory}/env` : "");
    assert(!(await server.crictlOk(["inspect", made.container])).includes(secret));
    for (const host of ["knode", "ctl", "n1", "n2"] as const) {
      const { stdout } = await lab.exec(host, [
        "sh",
        "-c",
        "cat /proc/[0-9]*/cmdline | tr '\\0' ' '",
      ]);
      assert(!stdout.includes(secret), `an argv on ${host} holds a secret`);
    }
  }
  const { stdout } = await lab.exec("ctl", [
    "stat",
    "-c",
    "%a",
    info.slurm.directory ?? "",
    `${info.slurm.directory}/env`,
  ]);
  assertEquals(stdout.trim(), "700\n600");
  await harness.removeCleanly(made);
});

Deno.test("results outlive the container when the program wrote some", async () => {
  const made = await harness.run({ command: sh('echo 42 > "$MULTICRI_RESULTS_DIR/answer"') });
  const { info } = await harness.exited(made.container);
  const { own } = await harness.logs(made.container);
  assertStringIncludes(own.join("\n"), `results in ${info.slurm.directory}/results`);
  await harness.server.crictlOk(["rmp", "--force", made.pod]);
  const found = await harness.onCluster(
    `find multi-cri/${made.pod} -type f; cat ${info.slurm.directory}/results/answer`,
  );
  assertEquals(found, `multi-cri/${made.pod}/${made.container}/results/answer\n42`);
  await harness.onCluster(`rm -r multi-cri/${made.pod}`);
});

Deno.test("a large output arrives whole when a job writes faster than it is followed", async () => {
  const made = await harness.run({ command: sh("seq 1 300000; seq 1 1000 >&2") });
  assertEquals((await harness.exited(made.container)).status.exitCode, 0);
  const { stdout, stderr } = await harness.logs(made.container);
  assertEquals([stdout.length, stdout.at(-1), stderr.length], [300_000, "300000", 1_000]);
  assert(stdout.every((line, index) => line === String(index + 1)));
  await harness.removeCleanly(made);
});

Deno.test("a repeated RunPodSandbox and CreateContainer return the ids of the first", async () => {
  const { pod, container } = await harness.create({ command: sh("true") });
  const name = `${harness.server.options.name}`;
  const files =
    (await harness.lab.exec("knode", ["sh", "-c", `ls -t /run/${name}-*-pod.json | head -n 1`]))
      .stdout.trim();
  assertEquals(await harness.server.crictlOk(["runp", "--runtime", "multicri", files]), pod);
  const containerFile = files.replace("-pod.json", "-container.json");
  assertEquals(await harness.server.crictlOk(["create", pod, containerFile, files]), container);
  await harness.removeCleanly({ pod, container });
});

Deno.test("lists show what they are asked for when filtered", async () => {
  const made = await harness.run({ command: sh("sleep 600") });
  const ids = async (args: string[]) =>
    (await harness.server.crictlOk(args)).split("\n").filter((id) => id !== "");
  assertEquals(await ids(["ps", "-q", "--no-trunc", "--id", made.container.slice(0, 13)]), [
    made.container,
  ]);
  assertEquals(await ids(["ps", "-q", "--no-trunc", "--pod", made.pod]), [made.container]);
  assertEquals(await ids(["ps", "-q", "--no-trunc", "--pod", made.pod, "--state", "exited"]), []);
  assertEquals(await ids(["pods", "-q", "--no-trunc", "--id", made.pod]), [made.pod]);
  assertEquals(
    await ids(["pods", "-q", "--no-trunc", "--id", made.pod, "--state", "notready"]),
    [],
  );
  await harness.server.crictlOk(["stopp", made.pod]);
  assertEquals(await ids(["pods", "-q", "--no-trunc", "--id", made.pod, "--state", "notready"]), [
    made.pod,
  ]);
  assertEquals(
    await ids(["ps", "-a", "-q", "--no-trunc", "--pod", made.pod, "--state", "exited"]),
    [made.container],
  );
  await harness.removeCleanly(made);
});

Deno.test("50 jobs at once end with their own logs and exit codes", async () => {
  const made = [];
  for (let index = 0; index < 50; index++) {
    made.push(await harness.run({ command: sh(`echo job ${index}; exit ${index % 5}`) }));
  }
  for (const [index, { container }] of made.entries()) {
    assertEquals((await harness.exited(container)).status.exitCode, index % 5);
    assertEquals((await harness.logs(container)).stdout, [`job ${index}`]);
  }
  for (const one of made) await harness.removeCleanly(one);
});
