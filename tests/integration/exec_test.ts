/** Commands in running containers on the real lab: `crictl exec --sync`, and gRPC where bytes matter. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { delay } from "@std/async/delay";
import type { ServiceError } from "@grpc/grpc-js";
import { CriClient } from "../cri_client.ts";
import { BUSYBOX, ENTRY, Harness, type JobSpec } from "./harness.ts";

let harness: Harness;
Deno.test.beforeAll(async () => {
  harness = await Harness.start({ name: "exec" });
  await harness.server.crictlOk(["pull", ENTRY]);
});
Deno.test.afterAll(() => harness?.stop());

const NODES = ["n1", "n2"] as const;
const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const sh = (script: string) => ["/bin/sh", "-c", script];

interface Outcome {
  stdout: Uint8Array;
  stderr: Uint8Array;
  exitCode: number;
}

/** ExecSync by gRPC. Rejects with the ServiceError. */
async function execSync(
  container: string,
  cmd: string[],
  timeoutSeconds = 30,
  signal?: AbortSignal,
): Promise<Outcome> {
  const client = new CriClient(harness.lab.path("knode", harness.server.socketPath));
  const request = { containerId: container, cmd, timeout: BigInt(timeoutSeconds) };
  return await client.call("execSync", request, signal === undefined ? {} : { signal })
    .finally(() => client.close());
}

/** The name of the gRPC code and the message of a call that fails. */
async function failure(call: Promise<unknown>): Promise<[code: number, details: string]> {
  try {
    await call;
  } catch (error) {
    const { code, details } = error as ServiceError;
    return [code, details];
  }
  throw new Error("the call succeeded");
}
const CODES = { cancelled: 1, invalid: 3, deadline: 4, precondition: 9, unavailable: 14 };

/** A running container, removed afterwards; nothing of it may be left. */
async function withContainer(
  spec: JobSpec,
  use: (container: string) => Promise<void>,
): Promise<void> {
  const made = await harness.run({ command: sh("sleep 600"), ...spec });
  await harness.running(made.container);
  await use(made.container);
  await harness.server.crictlOk(["stop", "--timeout", "0", made.container]);
  // Slurm lists a job for a moment after its end while it clears away the steps.
  while (
    await harness.onCluster(`squeue --noheader --name=multicri-${made.container}`) !== ""
  ) await delay(100);
  await harness.removeCleanly(made);
}

/** Command lines of the user's processes on both nodes that hold `words`. */
async function processesWith(words: string): Promise<string[]> {
  const lists = await Promise.all(
    NODES.map((node) =>
      harness.lab.exec(node, ["ps", "-u", harness.lab.login.user, "-o", "args="])
    ),
  );
  return lists.flatMap(({ stdout }) => stdout.split("\n")).filter((line) => line.includes(words));
}

for (const node of NODES) {
  Deno.test(`crictl exec --sync shows output and exit code when the job runs on ${node}`, () =>
    withContainer(
      { cluster: { JOB_CUSTOM_CONFIG: `#SBATCH --nodelist=${node}` } },
      async (container) => {
        const { info } = await harness.inspect(container);
        assertEquals(info.slurm.job?.host, node);
        const exec = (...words: string[]) =>
          harness.server.crictl(["exec", "--sync", container, ...words]);
        const fine = await exec("sh", "-c", "echo out; echo err >&2");
        assertEquals([fine.code, fine.stdout], [0, "out\n\nerr\n\n"]);
        for (const code of [1, 7, 126, 127, 128, 255]) {
          assertMatch(
            (await exec("sh", "-c", `exit ${code}`)).stderr,
            RegExp(`exited with ${code}:`),
          );
        }
        assertMatch((await exec("sh", "-c", "kill -9 $$")).stderr, /exited with 137:/);
        assertMatch((await exec("sh", "-c", "kill -15 $$")).stderr, /exited with 143:/);
      },
    ));
}

Deno.test("a command has the program's environment to the byte, its directory, and no terminal", () =>
  withContainer({
    image: ENTRY,
    command: sh(
      "tr '\\0' '\\n' </proc/self/environ >/dev/null; cat /proc/self/environ | sort -z | base64; sleep 600",
    ),
    env: {
      LINES: "one\ntwo\n",
      ODD: `'"\\$(id)\`id\` \t é`,
      EMPTY: "",
      TRAIL: "back\\",
      "a.b-c": "dotted",
      CRLF: "x\r\ny",
      LD_LIBRARY_PATH: "/opt/lib",
      HOME: "/somewhere",
    },
  }, async (container) => {
    await harness.until(
      container,
      "logging",
      async () => (await harness.logs(container)).stdout.length > 5,
    );
    await delay(500);
    const own = Uint8Array.fromBase64((await harness.logs(container)).stdout.join(""));
    const variables = (bytes: Uint8Array) => text(bytes).split("\0").filter(Boolean).toSorted();
    const { stdout } = await execSync(container, ["cat", "/proc/self/environ"]);
    // The shell that runs the program counts itself and its directory.
    const byShell = (variable: string) => /^(SHLVL|PWD|OLDPWD|_)=/.test(variable);
    const expected = variables(own).filter((variable) => !byShell(variable));
    assertEquals(variables(stdout).filter((variable) => !byShell(variable)), expected);
    assert(expected.includes("a.b-c=dotted") && expected.includes("LINES=one\ntwo\n"));
    assert(expected.some((variable) => variable.startsWith("GREETING=")));
    const place = await execSync(container, sh("pwd; umask; cat; tty; echo $(ls /proc/self/fd)"));
    assertEquals(text(place.stdout), "/srv/work\n0022\nnot a tty\n0 1 2 3\n");
  }));

Deno.test("a command's words and output are kept to the byte", () =>
  withContainer({}, async (container) => {
    const words = ["", " ", "a\nb", "$(id)", "`id`", "'\"\\", "*", "-n", "é漢\u{1f680}"];
    const echoed = await execSync(container, [...sh('printf "<%s>" "$@"'), "sh", ...words]);
    assertEquals(text(echoed.stdout), words.map((word) => `<${word}>`).join(""));
    const random =
      "head -c 1048576 /dev/urandom | tee /tmp/a; head -c 1048576 /dev/urandom | tee /tmp/b >&2";
    const { stdout, stderr } = await execSync(container, sh(random));
    const sums = await execSync(container, sh("sha256sum </tmp/a; sha256sum </tmp/b"));
    const sum = async (bytes: Uint8Array) =>
      new Uint8Array(await crypto.subtle.digest("SHA-256", new Uint8Array(bytes))).toHex();
    assertEquals([stdout.length, stderr.length], [1_048_576, 1_048_576]);
    assertEquals(text(sums.stdout), `${await sum(stdout)}  -\n${await sum(stderr)}  -\n`);
  }));

Deno.test("output that no answer can hold is cut, and the exit code is told", () =>
  withContainer({}, async (container) => {
    const { stdout, stderr, exitCode } = await execSync(
      container,
      sh("head -c 30000000 /dev/zero; exit 5"),
    );
    assertEquals([stdout.length + stderr.length, exitCode], [16 * 1024 * 1024 - 64 * 1024, 5]);
  }));

Deno.test("a command that the image lacks is refused", () =>
  withContainer({}, async (container) => {
    const cases: [string, RegExp][] = [
      ["no-such", /"no-such" .*it is not in PATH, \/usr/],
      ["/no/such", /there is no such file/],
      ["/etc/passwd", /it is no executable file/],
    ];
    for (const [command, says] of cases) {
      const [code, details] = await failure(execSync(container, [command]));
      assertEquals(code, CODES.invalid);
      assertMatch(details, says);
    }
  }));

Deno.test("a command is killed in the container when its time is over", () =>
  withContainer({}, async (container) => {
    const script = "sleep 7001 & (setsid sleep 7001; :) & trap '' TERM INT; sleep 7001; sleep 7001";
    const [code, details] = await failure(execSync(container, sh(script), 1));
    assertEquals(code, CODES.deadline);
    assertMatch(details, /ran longer than 1000 ms and was killed/);
    assertEquals(await processesWith("7001"), []);
    assertEquals((await execSync(container, ["true"])).exitCode, 0);
  }));

Deno.test("a command is killed in the container when its client goes", () =>
  withContainer({}, async (container) => {
    const abort = new AbortController();
    const call = failure(execSync(container, sh("sleep 7002; :"), 0, abort.signal));
    while ((await processesWith("sleep 7002")).length === 0) await delay(100);
    abort.abort();
    assertEquals((await call)[0], CODES.cancelled);
    while ((await processesWith("7002")).length > 0) await delay(100);
  }));

Deno.test("a command is killed in the container when the server is killed", async () => {
  const own = await Harness.start({ name: "execkill" });
  try {
    const made = await own.run({ command: sh("sleep 600") });
    await own.running(made.container);
    const call = own.server.crictl(["exec", "--sync", made.container, ...sh("sleep 7003; :")]);
    while ((await processesWith("sleep 7003")).length === 0) await delay(100);
    await own.server.kill();
    assertEquals((await call).code, 1);
    while ((await processesWith("7003")).length > 0) await delay(100);
    await own.server.start();
    await own.server.crictlOk(["exec", "--sync", made.container, "true"]);
    await own.removeCleanly(made);
  } finally {
    await own.stop();
  }
});

Deno.test("30 commands at once all end, and calls that control jobs are not held up", () =>
  withContainer({}, async (container) => {
    const running = Array.from(
      { length: 30 },
      (_, index) => execSync(container, sh(`sleep 0.2; echo ${index}; exit ${index}`)),
    );
    const other = await harness.run({ command: ["true"] });
    const outcomes = await Promise.all(running);
    assertEquals(
      outcomes.map(({ stdout, exitCode }) => [text(stdout), exitCode]),
      Array.from({ length: 30 }, (_, index) => [`${index}\n`, index]),
    );
    await harness.exited(other.container);
    await harness.removeCleanly(other);
    assertEquals(await processesWith("perl"), []);
  }));

Deno.test("while a job pends a probe is refused at once, and a hook waits for it", async () => {
  const made = await harness.run({
    command: sh("sleep 600"),
    cluster: { JOB_CUSTOM_CONFIG: "#SBATCH --hold" },
  });
  const [code, details] = await failure(execSync(made.container, ["true"], 1));
  assertEquals(code, CODES.unavailable);
  assertMatch(details, /its job \d+ waits/);
  const hook = execSync(made.container, sh("echo after all"), 0);
  const [job] = await harness.jobsOf(made.container);
  await harness.onCluster(`scontrol release ${job}`);
  assertEquals(text((await hook).stdout), "after all\n");
  await harness.removeCleanly(made);
});

Deno.test("a hook waits while the prerun runs, and a probe is refused", async () => {
  const made = await harness.run({
    command: sh("sleep 600"),
    cluster: { CLUSTER_CONFIG: "sleep 8" },
  });
  await harness.running(made.container);
  const hook = execSync(made.container, ["true"], 0);
  const [code, details] = await failure(execSync(made.container, ["true"], 1));
  assertEquals(code, CODES.unavailable);
  assertMatch(details, /its program is not there yet/);
  assertEquals((await hook).exitCode, 0);
  await harness.removeCleanly(made);
});

Deno.test("a hook fails when its pending container is stopped", async () => {
  const made = await harness.run({
    command: sh("sleep 600"),
    cluster: { JOB_CUSTOM_CONFIG: "#SBATCH --hold" },
  });
  const hook = failure(execSync(made.container, ["true"], 0));
  await harness.server.crictlOk(["stop", made.container]);
  assertEquals((await hook)[0], CODES.precondition);
  await harness.removeCleanly(made);
});

Deno.test("a command is refused when its container is created, ended or unknown", async () => {
  const made = await harness.create({ image: BUSYBOX, command: ["true"] });
  const refused = async () => await failure(execSync(made.container, ["true"]));
  assertMatch((await refused()).join(), /^9,.*it is created/);
  await harness.server.crictlOk(["start", made.container]);
  await harness.exited(made.container);
  assertMatch((await refused()).join(), /^9,.*it is exited/);
  const unknown = await failure(execSync("0".repeat(64), ["true"]));
  assertMatch(unknown.join(), /^5,.*there is none/);
  await harness.removeCleanly(made);
});

Deno.test("a command ends when its container does", () =>
  withContainer({ command: sh("sleep 5") }, async (container) => {
    const outcome = await execSync(container, sh("sleep 7004"), 0).then(
      ({ exitCode }) => exitCode,
      (error: ServiceError) => error.code,
    );
    // The kernel's SIGKILL is told, or the step is gone before it can be.
    assert([137, 2].includes(outcome), String(outcome));
    assertEquals(await processesWith("7004"), []);
  }));
