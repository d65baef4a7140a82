import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { writeStderrLine } from "../../lib/base/log.ts";
import { Lab } from "../../scripts/lab/lab.ts";
import { waitFor } from "../../scripts/lab/progress.ts";
import { MIRRORED_REGISTRIES } from "../../scripts/lab/registry.ts";
import { HOST_NAMES, KNODE_PATHS } from "../../scripts/lab/settings.ts";
import { PARTITIONS } from "../../scripts/lab/slurm.ts";

/** The lab that all integration tests share; these tests change nothing in it. */
const lab = new Lab({}, writeStderrLine);

/** From submission to the first instruction the lab takes about a second; a loaded machine much longer. */
const JOB_TIMEOUT_MS = 120_000;

/** Runs a command as the cluster's user on the login host and returns its output. */
async function onCluster(script: string): Promise<string> {
  const { user } = lab.login;
  const result = await lab.exec("ctl", ["bash", "-c", script], { user, timeoutMs: JOB_TIMEOUT_MS });
  assertEquals(result.code, 0, result.stderr);
  return result.stdout.trim();
}

Deno.test("Lab.up() starts nothing anew when the lab is up", async () => {
  await lab.up();
  const before = await lab.exec("ctl", ["cat", "/proc/1/stat"]);
  await lab.up();
  assertEquals(await lab.exec("ctl", ["cat", "/proc/1/stat"]), before);
  const { state, hosts } = await lab.status();
  assertEquals(state, "up");
  assertEquals(hosts.map(({ name, running }) => [name, running]), HOST_NAMES.map((n) => [n, true]));
});

Deno.test("Lab.exec() returns code and outputs, as user, in folder, with environment and input", async () => {
  const script = 'id -un; pwd; echo "$X"; cat; echo err >&2; exit 9';
  const result = await lab.exec("n1", ["bash", "-c", script], {
    user: lab.login.user,
    cwd: "/tmp",
    env: { X: "a 'b' $c" },
    stdin: "from stdin\n",
  });
  const stdout = `${lab.login.user}\n/tmp\na 'b' $c\nfrom stdin\n`;
  assertEquals(result, { code: 9, stdout, stderr: "err\n" });
  assertEquals((await lab.exec("n2", ["sh", "-c", "kill -TERM $$"])).code, 143);
  const missing = await lab.exec("n2", ["/no/such/program"]);
  assertEquals(missing.code, 127);
  assertStringIncludes(missing.stderr, "/no/such/program");
});

Deno.test("Lab.exec() throws when the time is up, and nothing goes on in the host", async () => {
  const argv = ["sh", "-c", "sleep 31.5 & sleep 32.5"];
  await assertRejects(
    () => lab.exec("n1", argv, { timeoutMs: 1000 }),
    Error,
    "did not end within 1 s",
  );
  await waitFor("The end of both programs", async () => {
    return (await lab.exec("n1", ["pgrep", "-fx", "sleep 3[12].5"])).code === 1;
  }, { timeoutMs: 10_000, log: "ps on n1" });
});

Deno.test("Lab.spawn() gives a program whose streams, signals and end are its own", async () => {
  const script = 'trap "echo got TERM; exit 5" TERM; echo ready; while :; do sleep 0.1; done';
  const program = await lab.spawn("knode", ["bash", "-c", script], { stdout: "piped" });
  const reader = program.child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  assertEquals((await reader.read()).value, "ready\n");
  assert(await program.signal("SIGTERM"));
  assertEquals((await reader.read()).value, "got TERM\n");
  assertEquals((await program.child.status).code, 5);
  assert(!await program.signal("SIGTERM"), "it has ended");
  await reader.cancel();

  const endless = await lab.spawn("knode", ["sleep", "33.5"]);
  await endless.kill();
  assertEquals((await lab.exec("knode", ["pgrep", "-fx", "sleep 33.5"])).code, 1);
});

Deno.test("the hosts are apart from each other and from the machine", async () => {
  const lines = async (path: string) =>
    await Promise.all(
      HOST_NAMES.map(async (host) => (await lab.exec(host, ["readlink", path])).stdout.trim()),
    );
  for (const namespace of ["net", "uts", "pid", "mnt", "ipc"]) {
    const own = await Deno.readLink(`/proc/self/ns/${namespace}`).catch(() => "unreadable");
    const all = [own, ...await lines(`/proc/self/ns/${namespace}`)];
    assertEquals(new Set(all).size, all.length, namespace);
  }
  for (const host of HOST_NAMES) {
    assertEquals((await lab.exec(host, ["cat", "/proc/sys/kernel/hostname"])).stdout, `${host}\n`);
    const routes = (await lab.exec(host, ["ip", "route"])).stdout;
    assertMatch(routes, new RegExp(`^${lab.settings.subnet}\\.0/24 dev \\w+ .*\\n$`));
  }
});

Deno.test("the Kubernetes node sees neither the cluster's /home nor its /run, but checkout and deno", async () => {
  assertEquals((await lab.exec("knode", ["ls", "-A", "/home"])).stdout, "");
  assertEquals((await lab.exec("knode", ["id", lab.login.user])).code, 1);
  assertEquals((await lab.exec("knode", ["ls", "/run/munge/munge.socket.2"])).code, 2);
  assertEquals((await lab.exec("ctl", ["ls", "/run/munge/munge.socket.2"])).code, 0);
  const config = `${KNODE_PATHS.checkout}/deno.json`;
  const here = await Deno.readTextFile(new URL("../../deno.json", import.meta.url));
  assertEquals((await lab.exec("knode", ["cat", config])).stdout, here);
  assertEquals((await lab.exec("knode", ["touch", config])).code, 1, "read-only");
  const version = await lab.exec("knode", [lab.knodeDeno, "--version"]);
  assertStringIncludes(version.stdout, `deno ${Deno.version.deno} `);
});

Deno.test("a host's files are on the machine at Lab.path(), the user's home at Lab.homePath", async () => {
  await onCluster("echo from the cluster > ~/lab-test-file");
  assertEquals(await Deno.readTextFile(`${lab.homePath}/lab-test-file`), "from the cluster\n");
  await onCluster("rm ~/lab-test-file");
  await lab.exec("knode", ["sh", "-c", "echo x > /run/lab-test-file"]);
  assertEquals(await Deno.readTextFile(lab.path("knode", "/run/lab-test-file")), "x\n");
  await Deno.remove(lab.path("knode", "/run/lab-test-file"));
});

Deno.test("a job runs an image of the registry by Apptainer on a compute node", async () => {
  const image = `docker://${lab.registryName}/${lab.images.busybox}`;
  const script = `#!/bin/bash
cd "$(mktemp -d)" && apptainer --silent pull image.sif ${image}
apptainer --silent exec --containall --no-eval image.sif /bin/sh -c 'echo "in $(uname -n) as $(id -u)"'
echo "code $?"
rm -r "$PWD"`;
  const output = await onCluster(
    `sbatch --wait --parsable --nodelist=n2 --output=lab-test-job --export=NONE <<'END' >/dev/null && cat lab-test-job && rm lab-test-job
${script}
END`,
  );
  assertEquals(output, "in n2 as 1000\ncode 0");
});

Deno.test("many jobs run at once, more than the nodes have CPUs", async () => {
  const jobs = 20;
  const ids = await onCluster(
    `for i in $(seq ${jobs}); do sbatch --parsable --output=/dev/null --wrap 'sleep 300'; done`,
  );
  const list = ids.split("\n").join(",");
  try {
    await waitFor("All jobs at once", async () => {
      const running = await onCluster(`squeue -h -t RUNNING -j ${list} -o %i`);
      return running.split("\n").filter(Boolean).length === jobs;
    }, { timeoutMs: JOB_TIMEOUT_MS, log: lab.path("ctl", "/var/log/slurm/slurmctld.log") });
  } finally {
    await onCluster(`scancel ${list.replaceAll(",", " ")}`);
  }
});

Deno.test("a job of the held partition stays pending", async () => {
  const id = await onCluster(`sbatch --parsable --partition=${PARTITIONS.held} --wrap hostname`);
  try {
    await waitFor("The reason", async () => {
      return await onCluster(`squeue -h -j ${id} -o '%T %r'`) === "PENDING PartitionDown";
    }, { timeoutMs: JOB_TIMEOUT_MS, log: lab.path("ctl", "/var/log/slurm/slurmctld.log") });
  } finally {
    await onCluster(`scancel ${id}`);
  }
});

Deno.test("the Kubernetes node logs in to the cluster by key and by password", async () => {
  const { host, port, user, password, privateKeyPath } = lab.login;
  const common = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"];
  const key = "/run/lab-test-key";
  await Deno.copyFile(privateKeyPath, lab.path("knode", key));
  const target = ["-p", String(port), `${user}@${host}`, "echo $(id -un) on $(uname -n)"];
  const byKey = await lab.exec("knode", [
    ...["ssh", "-i", key, "-o", "PasswordAuthentication=no", ...common, ...target],
  ]);
  assertEquals(byKey.stdout, `${user} on ctl\n`, byKey.stderr);
  await Deno.remove(lab.path("knode", key));

  const ask = "/run/lab-test-askpass";
  await Deno.writeTextFile(lab.path("knode", ask), '#!/bin/sh\nprintf %s "$PASSWORD"\n', {
    mode: 0o755,
  });
  const byPassword = async (PASSWORD: string) =>
    await lab.exec("knode", [
      ...["ssh", "-o", "PubkeyAuthentication=no", "-o", "NumberOfPasswordPrompts=1"],
      ...[...common, ...target],
    ], { env: { PASSWORD, SSH_ASKPASS: ask, SSH_ASKPASS_REQUIRE: "force" } });
  const right = await byPassword(password);
  assertEquals(right.stdout, `${user} on ctl\n`, right.stderr);
  assertEquals((await byPassword("wrong")).code, 255);
  await Deno.remove(lab.path("knode", ask));
});

Deno.test("images come from the registry by every name it has, and with its password", async () => {
  const { address, username, password } = lab.guardedRegistry;
  const pull = async (name: string, env: Record<string, string> = {}) =>
    await lab.exec("knode", [
      ...["apptainer", "--silent", "pull", "--force", "--disable-cache", "/tmp/lab-test.sif"],
      `docker://${name}`,
    ], { env, timeoutMs: JOB_TIMEOUT_MS });
  const prefixes = [lab.registryName, lab.registry, ...MIRRORED_REGISTRIES, address];
  for (const prefix of prefixes) {
    const env = prefix !== address ? {} : {
      APPTAINER_DOCKER_USERNAME: username,
      APPTAINER_DOCKER_PASSWORD: password,
    };
    const { code, stderr } = await pull(`${prefix}/${lab.images.entry}`, env);
    assertEquals(code, 0, `${prefix}: ${stderr}`);
  }
  const refused = await pull(`${address}/${lab.images.entry}`);
  assertEquals(refused.code, 255);
  assertMatch(refused.stderr, /authentication required/i);
  await Deno.remove(lab.path("knode", "/tmp/lab-test.sif"));
});

Deno.test("the entry image has everything set that a test may ask for", async () => {
  const image = `docker://${lab.registry}/${lab.images.entry}`;
  const inspect = await lab.exec("knode", ["skopeo", "inspect", "--config", image]);
  assertEquals(inspect.code, 0, inspect.stderr);
  assertEquals(JSON.parse(inspect.stdout).config, {
    User: "1234:2345",
    Env: [
      "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
      `GREETING=hello from the image's "$ENV"`,
    ],
    Entrypoint: ["/bin/show", "from entrypoint"],
    Cmd: ["from cmd", "$HOME"],
    WorkingDir: "/srv/work",
  });
});

Deno.test("Lab.logPaths() leads to the services' logs", async () => {
  const paths = await lab.logPaths("ctl");
  assert(paths.some((path) => path.endsWith("/ctl/root/var/log/slurm/slurmctld.log")), `${paths}`);
  assert(paths.every((path) => path.includes("/hosts/ctl/")), `${paths}`);
});
