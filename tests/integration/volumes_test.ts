/** Volumes of pods on the real lab: what the kubelet wrote, as the program in the job sees it. */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { Harness } from "./harness.ts";
import { mount, PodDirectory } from "./pod_directory.ts";

let harness: Harness;
Deno.test.beforeAll(async () => {
  harness = await Harness.start({ name: "volumes" });
});
Deno.test.afterAll(() => harness?.stop());

const sh = (script: string) => ["/bin/sh", "-c", script];

/** Every name, type, mode, target and content below a directory: the same program asks at both ends. */
const INVENTORY =
  `find . | LC_ALL=C sort | while read -r f; do stat -c '%n %F %a' "$f"; [ ! -L "$f" ] || readlink "$f"; [ ! -f "$f" ] || md5sum <"$f"; done`;

Deno.test("files, modes, links and bytes of volumes are the same at both ends", async () => {
  const pod = new PodDirectory(harness.lab);
  const binary = crypto.getRandomValues(new Uint8Array(60_000));
  const config = await pod.write("configmap", "config", "..2026_1", {
    "a.txt": "one\n",
    "ünï c@s'e": "two",
    "sub/deep/file": "three",
    empty: "",
    binary,
  });
  const secret = await pod.write("secret", "secret", "..2026_1", { key: "s3cret" }, "0400");
  await pod.run("mkdir volumes/kubernetes.io~secret/secret/..2026_1/nothing-in-it");
  const made = await harness.run({
    uid: pod.uid,
    command: sh(
      `cd /config; ${INVENTORY}; cd "/var/run/secrets/it's a"; ${INVENTORY}; touch x 2>/dev/null || echo readonly`,
    ),
    mounts: [mount(config, "/config"), mount(secret, "/var/run/secrets/it's a", true)],
  });
  const { status } = await harness.exited(made.container);
  const { stdout, own } = await harness.logs(made.container);
  assertEquals(status.exitCode, 0, own.join("\n"));
  const expected = await pod.run(
    `cd volumes/kubernetes.io~configmap/config; ${INVENTORY}; cd ../../kubernetes.io~secret/secret; ${INVENTORY}`,
  );
  assertEquals(stdout, [...expected.trim().split("\n"), "readonly"]);
  await harness.removeCleanly(made);
  await pod.remove();
});

Deno.test("a job sees new versions of its volumes while it runs, also when the server was restarted", async () => {
  // A server of its own: it is restarted.
  const own = await Harness.start({ name: "refreshed" });
  const pod = new PodDirectory(harness.lab);
  const token = await pod.write("projected", "token", "..2026_1", {
    token: "first",
    "ca.crt": "x",
  });
  const place = "/var/run/secrets/kubernetes.io/serviceaccount";
  const made = await own.run({
    uid: pod.uid,
    command: sh(
      `cd ${place}; seen=; while sleep 0.1; do now=$(cat token); [ "$now" = "$seen" ] || { echo "$now" *; seen=$now; }; done`,
    ),
    mounts: [mount(token, place, true)],
  });
  const until = (line: string) =>
    own.until(
      made.container,
      `at ${line}`,
      async () => (await own.logs(made.container)).stdout.at(-1) === line,
    );
  await until("first ca.crt token");
  await pod.write("projected", "token", "..2026_2", { token: "second", namespace: "ns" });
  await pod.run("rm volumes/kubernetes.io~projected/token/ca.crt");
  await until("second namespace token");
  await own.server.stop();
  await pod.write("projected", "token", "..2026_3", { token: "third", namespace: "ns" });
  await own.server.start();
  await until("third namespace token");
  const { info } = await own.inspect(made.container);
  const kept = await own.onCluster(
    `cd ${info.slurm.directory}/volumes/0; ls -A; stat -c %a .. .`,
  );
  assertEquals(kept.split("\n"), [
    "..2026_2",
    "..2026_3",
    "..data",
    "namespace",
    "token",
    "700",
    "755",
  ]);
  await own.removeCleanly(made);
  await pod.remove();
  await own.stop();
});

/** A place and a directory's name that hold whatever cuts words, fields and options, or leads elsewhere. */
const NAMES: readonly string[] = [
  `it's "my" a,b:c \\ $(touch injected) \`id\` *;&|<>#ü`,
  "a,ro,destination=etc",
  "type=tmpfs",
  " -- ",
  '"',
];
for (const name of NAMES) {
  Deno.test(`a volume is where it is asked for when its name is ${JSON.stringify(name)}`, async () => {
    const pod = new PodDirectory(harness.lab);
    const config = await pod.write("configmap", "config", "..2026_1", { [name]: name });
    await harness.onCluster("ls -A multi-cri >before");
    const made = await harness.run({
      uid: pod.uid,
      annotations: { "multicri.io/volume": name },
      command: ["/bin/sh", "-c", 'cat "/mnt/x/$0/$0"; echo; echo "$0" >"/multicri/$0"', name],
      mounts: [
        mount(config, `/mnt/../../mnt/x/./${name}`),
        mount(`${pod.path}/volumes/kubernetes.io~nfs/other`, "multicri"),
      ],
    });
    const { status } = await harness.exited(made.container);
    const { stdout, own } = await harness.logs(made.container);
    assertEquals([status.exitCode, stdout], [0, [name]], own.join("\n"));
    const directory = join(harness.lab.homePath, "multi-cri", name);
    assertEquals(await Deno.readTextFile(join(directory, name)), `${name}\n`);
    assertStringIncludes(own.join("\n"), "was not there and was made");
    await Deno.remove(join(directory, name));
    await harness.removeCleanly(made);
    await Deno.remove(directory);
    assertEquals(
      await harness.onCluster(
        "ls -A multi-cri | diff before - && rm before; ls injected 2>&1 || true",
      ),
      "ls: cannot access 'injected': No such file or directory",
    );
    await pod.remove();
  });
}

Deno.test("results stay in the volume, by the ids of sandbox and container, when there is one", async () => {
  const pod = new PodDirectory(harness.lab);
  const volume = mount(`${pod.path}/volumes/kubernetes.io~csi/nfs-vol1/mount`, "/multicri");
  const run = async (readonly: boolean) => {
    const made = await harness.run({
      uid: crypto.randomUUID(),
      command: sh('echo 42 >"$MULTICRI_RESULTS_DIR/answer"; touch /multicri/x || echo readonly'),
      mounts: [{ ...volume, readonly }],
    });
    assertEquals((await harness.exited(made.container)).status.exitCode, 0);
    return { made, ...await harness.logs(made.container) };
  };
  const { made, own, stdout } = await run(false);
  const results = `multi-cri/nfs-vol1/${made.pod}/${made.container}`;
  assertMatch(own.join("\n"), new RegExp(`results in /home/[^ ]*/${results}$`, "m"));
  assertEquals(stdout, []);
  await harness.server.crictlOk(["rmp", "--force", made.pod]);
  assertEquals(
    await harness.onCluster(
      `cat ${results}/answer; rm ${results}/answer; ls -d multi-cri/${made.pod} || echo gone`,
    ),
    "42\ngone",
  );
  // Nothing may be written into one that is mounted read-only.
  const other = await run(true);
  assertEquals(other.stdout, ["readonly"]);
  const { info } = await harness.inspect(other.made.container);
  assertStringIncludes(other.own.join("\n"), `results in ${info.slurm.directory}/results`);
  assertEquals(await harness.onCluster(`cat ${info.slurm.directory}/results/answer`), "42");
  await harness.onCluster(`rm -r ${info.slurm.directory}/results multi-cri/nfs-vol1`);
  await harness.removeCleanly(other.made);
});

Deno.test("host names are those of the cluster and of the pod", async () => {
  const pod = new PodDirectory(harness.lab);
  const aliases = "# Entries added by HostAliases.\n10.9.9.9\tdb db.lab\n";
  await pod.run(
    `printf '# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n10.84.0.100\tweb\n\n${aliases}' >etc-hosts`,
  );
  const made = await harness.run({
    uid: pod.uid,
    command: sh("cat /etc/hosts"),
    mounts: [mount(`${pod.path}/etc-hosts`, "/etc/hosts")],
    cluster: { JOB_CUSTOM_CONFIG: "--nodelist=n1" },
  });
  assertEquals((await harness.exited(made.container)).status.exitCode, 0);
  const { stdout } = await harness.lab.exec("n1", ["cat", "/etc/hosts"]);
  assertEquals((await harness.logs(made.container)).stdout, [
    ...stdout.trimEnd().split("\n"),
    "127.0.1.1\tweb",
    "10.9.9.9\tdb db.lab",
  ]);
  await harness.removeCleanly(made);
  await pod.remove();
});

Deno.test("200 files come with the job, and a secret among them is nowhere else", async () => {
  const pod = new PodDirectory(harness.lab);
  const files = Object.fromEntries(
    Array.from({ length: 200 }, (_, i) => [`file-${i}`, `text ${i}`]),
  );
  const marker = `marked-${crypto.randomUUID()}`;
  const config = await pod.write("configmap", "config", "..2026_1", files);
  const secret = await pod.write("secret", "secret", "..2026_1", { password: marker }, "0644");
  const made = await harness.run({
    uid: pod.uid,
    command: sh(
      "cat /config/file-* | wc -l; ls /config | wc -l; wc -c </secret/password; sleep 600",
    ),
    mounts: [mount(config, "/config", true), mount(secret, "/secret", true)],
  });
  await harness.until(
    made.container,
    "done with its files",
    async () => (await harness.logs(made.container)).stdout.length === 3,
  );
  assertEquals((await harness.logs(made.container)).stdout, ["0", "200", String(marker.length)]);
  const { info } = await harness.inspect(made.container);
  const { server, lab } = harness;
  const search = ["grep", "-rlF", "--", marker];
  const onNode = await lab.exec("knode", [
    ...search,
    server.stateDir,
    server.rootDir,
    server.logPath,
    "/var/log/pods",
  ]);
  const onCluster = await lab.exec("ctl", [...search, info.slurm.directory ?? ""]);
  assertEquals(
    [onNode.stdout, onCluster.stdout.trim()],
    ["", `${info.slurm.directory}/volumes/1/..2026_1/password`],
  );
  assertEquals(await harness.onCluster(`stat -c %a ${info.slurm.directory}/volumes`), "700");
  for (const host of ["knode", "ctl", "n1", "n2"] as const) {
    const { stdout } = await lab.exec(host, [
      "sh",
      "-c",
      "cat /proc/[0-9]*/cmdline | tr '\\0' ' '",
    ]);
    assertEquals(stdout.includes(marker), false, `an argv on ${host} holds a secret`);
  }
  await harness.removeCleanly(made);
  await pod.remove();
});

const REFUSED: readonly [what: string, hostPath: (pod: PodDirectory) => string, says: RegExp][] = [
  [
    "a path of the node",
    () => "/etc/kubernetes",
    /\/etc\/kubernetes.* is a path of the Kubernetes node/,
  ],
  [
    "another pod's Secret",
    () => "/var/lib/kubelet/pods/other/volumes/kubernetes.io~secret/s",
    /belongs to another pod/,
  ],
  [
    "a volume that only the node has",
    ({ path }) => `${path}/volumes/kubernetes.io~csi/x/mount`,
    /whose files only the node has/,
  ],
  [
    "a link in a ConfigMap's place",
    ({ path }) => `${path}/volumes/kubernetes.io~configmap/link`,
    /a link must lead to something beside/,
  ],
  [
    "nothing",
    ({ path }) => `${path}/volumes/kubernetes.io~configmap/none`,
    /which the kubelet must have written/,
  ],
];
for (const [what, hostPath, says] of REFUSED) {
  Deno.test(`a mount is refused by name when it is ${what}`, async () => {
    const pod = new PodDirectory(harness.lab);
    await pod.run(
      "mkdir -p volumes/kubernetes.io~configmap; ln -s /etc volumes/kubernetes.io~configmap/link",
    );
    const failure = await harness.create({
      uid: pod.uid,
      command: ["true"],
      mounts: [mount(hostPath(pod), "/data")],
    }).then(() => "it was created", (error: Error) => error.message);
    assertMatch(failure, says);
    await pod.remove();
  });
}
