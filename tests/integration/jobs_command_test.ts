/** `multicri jobs`, started by the launcher in the node as an administrator would. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { KNODE_PATHS } from "../../scripts/lab/settings.ts";
import { Harness } from "./harness.ts";

const sh = (script: string) => ["/bin/sh", "-c", script];

async function withHarness(
  name: string,
  test: (harness: Harness) => Promise<void>,
): Promise<void> {
  const harness = await Harness.start({ name });
  try {
    await test(harness);
  } finally {
    await harness.stop();
  }
}

/** Runs a command with the lab's login in its environment. */
async function jobs({ server, lab }: Harness, words: string[]) {
  const { host, user, password } = lab.login;
  return await lab.exec("knode", [
    `${KNODE_PATHS.checkout}/scripts/multicri`,
    ...["jobs", ...words, "--socket-path", server.socketPath, "--root-dir", server.rootDir],
  ], {
    env: {
      ...server.env,
      CLUSTER_HOST: host,
      CLUSTER_USERNAME: user,
      CLUSTER_PASSWORD: password,
    },
    timeoutMs: 60_000,
  });
}

/** The line of `jobs list` about a container, as words; undefined when there is none. */
async function listed(harness: Harness, container: string): Promise<string[] | undefined> {
  const { code, stdout, stderr } = await jobs(harness, ["list"]);
  assertEquals(code, 0, stderr + stdout);
  const line = stdout.split("\n").find((line) => line.includes(`/${container}`));
  return line?.split(/\s+/).slice(0, 5);
}

Deno.test("jobs of a node that lost all its records are listed and ended", () =>
  withHarness("reinst", async (harness) => {
    const made = await harness.run({
      command: sh('echo kept >"$MULTICRI_RESULTS_DIR/result"; sleep 600'),
    });
    const { info } = await harness.running(made.container);
    const job = `env/${info.slurm.jobId}`;
    const pod = "tests/reinst-1";
    assertEquals(await listed(harness, made.container), [job, "RUNNING", pod, "main", "yes"]);
    const refused = await jobs(harness, ["end", job]);
    assertEquals(refused.code, 1);
    assertStringIncludes(refused.stdout, "it belongs to the pod tests/reinst-1 of this node");

    await harness.server.stop();
    await harness.server.forget();
    assertEquals(await listed(harness, made.container), [job, "RUNNING", pod, "main", "?"]);
    const unknown = await jobs(harness, ["end", job]);
    assertEquals(unknown.code, 1);
    assertStringIncludes(unknown.stdout, "does not answer");
    await harness.server.start();
    assertEquals(await listed(harness, made.container), [job, "RUNNING", pod, "main", "no"]);
    const ended = await jobs(harness, ["end", job, "env/99999"]);
    assertEquals(ended.code, 1, "the second is no job");
    assertStringIncludes(ended.stdout, `${job}: ended`);
    assertStringIncludes(ended.stdout, "env/99999: it is no job of multicri's");
    assertEquals(await listed(harness, made.container), undefined);
    const directory = info.slurm.directory ?? "";
    assertEquals(
      await harness.onCluster(`find ${directory} -type f`),
      `${directory}/results/result`,
    );
    await harness.onCluster(`rm -r ${directory}`);
  }));

Deno.test("the job that a pod's containers share is listed, and ended with all of them", () =>
  withHarness("sharedjob", async (harness) => {
    const made = await harness.run({
      command: sh("sleep 600"),
      annotations: { "multicri.io/allocation": "pod" },
    });
    const { info } = await harness.running(made.container);
    const job = `env/${info.slurm.jobId}`;
    const pod = "tests/sharedjob-1";
    assertEquals(await listed(harness, `${made.pod}`), [job, "RUNNING", pod, "*", "yes"]);
    assertEquals(await listed(harness, made.container), [job, "RUNNING", pod, "main", "yes"]);
    assertEquals((await jobs(harness, ["end", job])).code, 1);
    await harness.server.stop();
    await harness.server.forget();
    await harness.server.start();
    assertEquals(await listed(harness, made.pod), [job, "RUNNING", pod, "*", "no"]);
    assertEquals((await jobs(harness, ["end", job])).code, 0);
    await harness.nothingLeft(made);
  }));

Deno.test("a container whose cluster is gone is abandoned, removed, and its job found later", () =>
  withHarness("abandon", async (harness) => {
    const { lab, server } = harness;
    const made = await harness.run({ command: sh("sleep 600") });
    const { info } = await harness.running(made.container);
    const route = async (verb: "add" | "del") => {
      const argv = ["ip", "route", verb, "blackhole", `${lab.login.host}/32`];
      assertEquals((await lab.exec("knode", argv)).code, 0);
    };
    await route("add");
    try {
      const stop = await server.crictl(["stop", "--timeout", "0", made.container]);
      assertStringIncludes(stop.stderr, "Unavailable");
      const abandoned = await jobs(harness, ["abandon", made.container]);
      assertEquals([abandoned.code, abandoned.stdout], [0, `${made.container}: abandoned\n`]);
      const { status } = await harness.inspect(made.container);
      assertEquals([status.state, status.exitCode, status.reason], [
        "CONTAINER_EXITED",
        255,
        "Abandoned",
      ]);
      await server.crictlOk(["rmp", "--force", made.pod]);
    } finally {
      await route("del");
    }
    const job = `env/${info.slurm.jobId}`;
    const line = await listed(harness, made.container);
    assertEquals([line?.[0], line?.[1], line?.at(-1)], [job, "RUNNING", "no"]);
    assertEquals((await jobs(harness, ["end", job])).code, 0);
    await harness.nothingLeft(made);
  }));

Deno.test("a command about jobs that cannot be understood ends with 2 and the usage", () =>
  withHarness("jobsuse", async (harness) => {
    for (const words of [[], ["end"], ["end", "17"], ["abandon"], ["list", "x"], ["stop"]]) {
      const { code, stderr } = await jobs(harness, words);
      assertEquals(code, 2, stderr);
      assertStringIncludes(stderr, "multicri jobs end CLUSTER/JOB…");
    }
  }));
