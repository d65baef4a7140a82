/** Logins as some sites want them, on real sshds of the lab. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { delay } from "@std/async/delay";
import { Harness } from "./harness.ts";

const INTERACTIVE_PORT = 2222;
const START_TRIES = 100;

let harness: Harness;
/** Ends what was started on a host. */
const undo: (() => Promise<void>)[] = [];

/** Starts another sshd on a host of the cluster. */
async function startSshd(host: "ctl" | "n1", port: number, options: string[]): Promise<void> {
  const { lab } = harness;
  const keys = await lab.exec(host, ["sh", "-c", "mkdir -p /run/sshd && ssh-keygen -A"]);
  assertEquals(keys.code, 0, keys.stderr);
  const argv = ["/usr/sbin/sshd", "-D", "-p", String(port), ...options.flatMap((o) => ["-o", o])];
  const sshd = await lab.spawn(host, argv);
  undo.push(() => sshd.kill());
  for (let tries = 0; tries < START_TRIES; tries++) {
    const { stdout } = await lab.exec(host, ["ss", "-Hltn", `sport = :${port}`]);
    if (stdout !== "") return;
    await delay(50);
  }
  throw new Error(`sshd does not listen on ${host}:${port}`);
}

Deno.test.beforeAll(async () => {
  harness = await Harness.start({ name: "logins" });
  const interactive = ["PasswordAuthentication=no", "KbdInteractiveAuthentication=yes"];
  await startSshd("ctl", INTERACTIVE_PORT, [
    ...interactive,
    "UsePAM=yes",
    "PidFile=/run/sshd-interactive.pid",
  ]);
  await startSshd("n1", 22, ["PasswordAuthentication=yes", "UsePAM=yes"]);
});
Deno.test.afterAll(async () => {
  for (const end of undo) await end();
  await harness?.stop();
});

const command = ["/bin/sh", "-c", "echo ran"];

/** Runs a job whose image is not on the cluster yet, so that OpenSSH's client has to log in as well. */
async function runs(cluster: Record<string, string>): Promise<void> {
  await harness.onCluster("rm -rf multi-cri/.images");
  const made = await harness.run({ command, cluster });
  assertEquals((await harness.exited(made.container)).status.exitCode, 0);
  assertEquals((await harness.logs(made.container)).stdout, ["ran"]);
  assertEquals(/.*OpenSSH's client cannot.*/.exec(await harness.server.log()), null);
  await harness.removeCleanly(made);
}

Deno.test("a job runs where the server asks for the password interactively", async () => {
  await runs({ CLUSTER_PORT: String(INTERACTIVE_PORT) });
});

Deno.test("a job runs on a cluster that only a jump host reaches", async () => {
  const { lab } = harness;
  const route = async (verb: "add" | "del") => {
    const argv = ["ip", "route", verb, "blackhole", `${lab.login.host}/32`];
    assertEquals((await lab.exec("knode", argv)).code, 0);
  };
  await route("add");
  try {
    await runs({ CLUSTER_JUMP_HOST: lab.address("n1") });
    const pinned = await lab.exec("knode", ["cat", `${harness.server.rootDir}/known_hosts`]);
    for (const host of ["n1", "ctl"] as const) {
      assertStringIncludes(pinned.stdout, `${lab.address(host)} `);
    }
  } finally {
    await route("del");
  }
});

Deno.test("a start fails with the jump host's name when that refuses the login", async () => {
  const made = await harness.create({
    command,
    cluster: { CLUSTER_JUMP_HOST: harness.lab.address("n1"), CLUSTER_JUMP_PASSWORD: "wrong" },
  });
  const { code, stderr } = await harness.server.crictl(["start", made.container]);
  assert(code !== 0);
  assertStringIncludes(stderr, `@${harness.lab.address("n1")}:22: the server refused the password`);
  assert(!stderr.includes("wrong"));
  await harness.server.crictlOk(["rmp", "--force", made.pod]);
});
